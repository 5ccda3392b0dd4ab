"""What a search may change: the ranges in a study file, and the number of trials."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from oodml.errors import unknown
from oodml.study.spec.consistency import validation_metrics
from oodml.study.spec.tables import (
    Table,
    accepted_types,
    check_listed,
    key_error,
    lists_values,
    parse_settings,
)

Number = Annotated[int | float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
DIGITS = 3
"""Significant digits of a value sampled from an interval."""


class SearchSettings(BaseModel):
    """How to search for the options of every method, on validation classes alone.

    Attributes:
        trials: number of trials (training runs) per method.
        split: the step whose training classes are used; None is step 0, or else the easiest split.
        seed: random seed of every trial and of the sampler.
        metric: the metric of the validation classes to maximize; "a+b" is the sum of two metrics.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int = Field(ge=1)
    split: str | None = None
    seed: Seed = 0
    metric: str = "recall@1"


class Choices(BaseModel):
    """A list of values to choose from."""

    model_config = ConfigDict(frozen=True)

    values: tuple[Any, ...]

    def values_to_validate(self) -> tuple[Any, ...]:
        return self.values

    def with_validated(self, values: tuple[Any, ...]) -> "Choices":
        return Choices(values=values)

    def initial_value(self) -> Any:
        """The value in the first trial if the option has no default."""
        return self.values[0]

    def describe(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"

    def value_of(self, parameter: int) -> Any:
        """The value of a parameter of optuna."""
        return self.values[parameter]

    def parameter_of(self, value: Any) -> int | None:
        """Optuna's parameter for a value; None outside the range."""
        return self.values.index(value) if value in self.values else None


class NumberRange(BaseModel):
    """The numbers from `low` to `high`, both included."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def values_to_validate(self) -> tuple[float, ...]:
        return (self.value_of(self.low), self.value_of(self.high))

    def with_validated(self, values: tuple[float, ...]) -> "NumberRange":
        return self

    def initial_value(self) -> float:
        middle = (self.low * self.high) ** 0.5 if self.log else (self.low + self.high) / 2
        return self.value_of(middle)

    def value_of(self, parameter: float) -> float:
        """The sampled number with `DIGITS` significant digits, inside the interval."""
        if self.whole:
            return round(parameter)
        return min(self.high, max(self.low, float(f"{parameter:.{DIGITS}g}")))

    def parameter_of(self, value: Any) -> Any:
        if isinstance(value, bool | str) or value is None or not self.low <= value <= self.high:
            return None
        return value

    def describe(self) -> str:
        low, high = (int(n) if self.whole else n for n in (self.low, self.high))
        return f"{low} to {high}" + (", logarithmic" if self.log else "")


Range = Choices | NumberRange


class _Bounds(BaseModel):
    model_config = ConfigDict(extra="forbid")

    low: Number
    high: Number
    log: bool = False


def parse_search(value: object, file: Path) -> SearchSettings | None:
    """Parse the `search` of a study file: a number of trials per method, or a table."""
    if value is None:
        return None
    if not isinstance(value, dict | int) or isinstance(value, bool):
        keys = ", ".join(SearchSettings.model_fields)
        problem = f"expected a number of trials per method, or a table with {keys}"
        raise key_error(file, "search", value, problem)
    table = value if isinstance(value, dict) else {"trials": value}
    if isinstance(table.get("split"), int) and not isinstance(table["split"], bool):
        table = table | {"split": str(table["split"])}
    settings = parse_settings(SearchSettings, table, "search", file)
    for name in settings.metric.split("+"):
        if name not in validation_metrics():
            raise unknown("metric", name, validation_metrics(), f"{file}: search.metric")
    return settings


def find_ranges(table: Table, kind: type[BaseModel], key: str, file: Path) -> dict[str, Range]:
    """The ranges in the table at `key`: lists where one value is expected, and tables of bounds."""
    ranges: dict[str, Range] = {}
    for name, value in table.items():
        dotted = f"{key}.{name}"
        if lists_values(name, value, kind):
            check_listed(value, dotted, file)
            ranges[name] = Choices(values=tuple(value))
        elif _is_interval(name, value, kind):
            bounds = parse_settings(_Bounds, value, dotted, file)
            ranges[name] = _make_interval(bounds, accepted_types(name, kind), dotted, file)
    return ranges


def refuse_intervals(table: Table, kind: type[BaseModel], key: str, file: Path) -> None:
    """Raise an error if a table contains bounds although the study has no search."""
    for name, value in table.items():
        if _is_interval(name, value, kind):
            remedy = "Add `search = 20` (trials per method) at the top of the file, or list values"
            problem = f"only a search samples from an interval. {remedy}"
            raise key_error(file, f"{key}.{name}", value, problem)


def tables_to_validate(
    table: Table, kind: type[BaseModel], key: str, file: Path
) -> Iterator[Table]:
    """The tables to validate: first without ranges, then with each test value of each range."""
    ranges = find_ranges(table, kind, key, file)
    fixed = {name: value for name, value in table.items() if name not in ranges}
    yield fixed
    for name, one in ranges.items():
        yield from (fixed | {name: value} for value in one.values_to_validate())


def _make_interval(bounds: _Bounds, accepted: set[type], key: str, file: Path) -> NumberRange:
    low, high = bounds.low, bounds.high
    whole = isinstance(low, int) and isinstance(high, int) and float not in accepted
    if accepted and not accepted & {int, float}:
        raise key_error(file, key, [low, high], "this key does not take a number")
    if accepted and float not in accepted and not whole:
        raise key_error(file, key, [low, high], "expected whole numbers")
    if low >= high:
        raise key_error(file, key, [low, high], "low must be below high")
    if bounds.log and low <= 0:
        raise key_error(file, f"{key}.low", low, "with `log` it must be above 0")
    return NumberRange(low=low, high=high, log=bounds.log, whole=whole)


def _is_interval(name: str, value: object, kind: type[BaseModel]) -> bool:
    if not isinstance(value, dict) or not {"low", "high"} & value.keys():
        return False
    return not any(issubclass(one, Mapping) for one in accepted_types(name, kind))
