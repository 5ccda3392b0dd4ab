"""What a search may change: the ranges of a study file, and how many trials it has."""

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from oodml.errors import OodmlError, unknown
from oodml.study.spec.consistency import validation_metrics
from oodml.study.spec.tables import Table, checked, is_listed

Number = Annotated[int | float, Field(allow_inf_nan=False)]
DIGITS = 3
"""Significant digits of a value that is drawn from an interval: nobody needs more."""


class SearchSettings(BaseModel):
    """A search for the options of every method, on validation classes alone.

    trials: trainings of each method. split: the step whose train classes are used; None is step 0,
    or the easiest. seed: of every trial and of what is drawn. metric: of the validation classes;
    "a+b" is the sum of two.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int = Field(ge=1)
    split: str | None = None
    seed: int = 0
    metric: str = "recall@1"


class Choices(BaseModel):
    """Values to choose from."""

    model_config = ConfigDict(frozen=True)

    values: tuple[Any, ...]

    def tried(self) -> tuple[Any, ...]:
        """The values that are checked when the file is read."""
        return self.values

    def checked_as(self, values: tuple[Any, ...]) -> "Choices":
        """The same with its values as the checks gave them."""
        return Choices(values=values)

    def start(self) -> Any:
        """The value of an option that has no default."""
        return self.values[0]

    def told(self) -> str:
        """The range in words."""
        return f"one of {', '.join(map(str, self.values))}"


class Interval(BaseModel):
    """Numbers from low to high, both included. log: evenly in the logarithm. whole: integers."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def tried(self) -> tuple[float, ...]:
        """The values that are checked when the file is read."""
        return (self.value(self.low), self.value(self.high))

    def checked_as(self, values: tuple[float, ...]) -> "Interval":
        """The same with its values as the checks gave them."""
        return self

    def start(self) -> float:
        """The value of an option that has no default: the middle."""
        middle = (self.low * self.high) ** 0.5 if self.log else (self.low + self.high) / 2
        return self.value(middle)

    def value(self, drawn: float) -> float:
        """A number of the interval in few digits."""
        if self.whole:
            return round(drawn)
        return min(self.high, max(self.low, float(f"{drawn:.{DIGITS}g}")))

    def told(self) -> str:
        """The range in words."""
        low, high = (int(n) if self.whole else n for n in (self.low, self.high))
        return f"{low} to {high}" + (", logarithmic" if self.log else "")


Range = Choices | Interval


class _Bounds(BaseModel):
    """An interval as a study file gives it."""

    model_config = ConfigDict(extra="forbid")

    low: Number
    high: Number
    log: bool = False


def read_search(value: object, file: Path) -> SearchSettings | None:
    """The `search` of a study file: a number of trials for each method, or a table."""
    if value is None:
        return None
    table = value if isinstance(value, dict) else {"trials": value}
    key = "search" if isinstance(value, dict) else ""
    if isinstance(table.get("split"), int) and not isinstance(table["split"], bool):
        table = table | {"split": str(table["split"])}
    if not isinstance(value, dict | int) or isinstance(value, bool):
        raise OodmlError(
            f"{file}: search: given {value!r}; a number of trials for each method, or a table "
            f"with {', '.join(SearchSettings.model_fields)} is expected"
        )
    settings = checked(SearchSettings, table, key or "search", file)
    for name in settings.metric.split("+"):
        if name not in validation_metrics():
            raise unknown("metric", name, validation_metrics(), f"{file}: search.metric")
    return settings


def find_ranges(table: Table, kind: type[BaseModel], key: str, file: Path) -> dict[str, Range]:
    """The ranges in the table at `key`: lists where one value is expected, and tables of bounds."""
    found: dict[str, Range] = {}
    for name, value in table.items():
        place = f"{file}: {key}.{name}"
        if is_listed(name, value, kind):
            if not value:
                raise OodmlError(f"{place}: given []; at least one value is needed")
            found[name] = Choices(values=tuple(value))
        elif _is_interval(name, value, kind):
            bounds = checked(_Bounds, value, f"{key}.{name}", file)
            found[name] = _interval(bounds, _takes(name, kind), place)
    return found


def refuse_intervals(table: Table, kind: type[BaseModel], key: str, file: Path) -> None:
    """Raise an error where a table has bounds and the study has no search."""
    for name, value in table.items():
        if _is_interval(name, value, kind):
            raise OodmlError(
                f"{file}: {key}.{name}: given {value!r}; only a search draws from an interval. "
                "Add `search = 20` (trials of each method) at the top, or list values"
            )


def corners(table: Table, kind: type[BaseModel], key: str, file: Path) -> Iterator[Table]:
    """The table without its ranges, then with each value of each range that is to be checked."""
    ranges = find_ranges(table, kind, key, file)
    bare = {name: value for name, value in table.items() if name not in ranges}
    yield bare
    for name, one in ranges.items():
        yield from (bare | {name: value} for value in one.tried())


def _interval(bounds: _Bounds, takes: set[type], place: str) -> Interval:
    low, high = bounds.low, bounds.high
    whole = isinstance(low, int) and isinstance(high, int) and float not in takes
    if takes and not takes & {int, float}:
        raise OodmlError(f"{place}: an interval is of numbers, and no number is expected here")
    if takes and float not in takes and not whole:
        raise OodmlError(f"{place}: given {low!r} to {high!r}; whole numbers are expected")
    if low >= high:
        raise OodmlError(f"{place}: low is {low!r} and high is {high!r}; low must be below high")
    if bounds.log and low <= 0:
        raise OodmlError(f"{place}.low: given {low!r}; with log it must be above 0")
    return Interval(low=low, high=high, log=bounds.log, whole=whole)


def _is_interval(name: str, value: object, kind: type[BaseModel]) -> bool:
    if not isinstance(value, dict) or not {"low", "high"} & value.keys():
        return False
    return not any(issubclass(one, Mapping) for one in _takes(name, kind))


def _takes(name: str, kind: type[BaseModel]) -> set[type]:
    """The types that a field takes; empty if it takes anything, or isn't one that is known."""
    field = kind.model_fields.get(name)
    found = set() if field is None else set(_types(field.annotation))
    return set() if Any in found else found - {type(None)}


def _types(annotation: Any) -> Iterator[type]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        yield from (type(value) for value in typing.get_args(annotation))
    elif origin in (typing.Union, types.UnionType, Annotated):
        for part in typing.get_args(annotation):
            yield from _types(part)
    elif isinstance(origin or annotation, type):
        yield origin or annotation
