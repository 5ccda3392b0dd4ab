"""What a search may change: the ranges in a study file, and the number of trials."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from oodml.errors import unknown
from oodml.study.spec.consistency import validation_metrics
from oodml.study.spec.tables import Key, Table, accepted_types, parse_settings

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

    @property
    def values(self) -> tuple[float, ...]:
        return (self.value_of(self.low), self.value_of(self.high))

    def initial_value(self) -> float:
        middle = (self.low * self.high) ** 0.5 if self.log else (self.low + self.high) / 2
        return self.value_of(middle)

    def value_of(self, parameter: float) -> float:
        """The sampled number with `DIGITS` significant digits, inside the interval."""
        if self.whole:
            return round(parameter)
        return min(self.high, max(self.low, float(f"{parameter:.{DIGITS}g}")))

    def parameter_of(self, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number and self.low <= value <= self.high else None

    def describe(self) -> str:
        low, high = (int(n) if self.whole else n for n in (self.low, self.high))
        return f"{low} to {high}" + (", logarithmic" if self.log else "")


Range = Choices | NumberRange


class _Bounds(BaseModel):
    model_config = ConfigDict(extra="forbid")

    low: Number
    high: Number
    log: bool = False


def parse_search(value: object, key: Key) -> SearchSettings | None:
    if value is None:
        return None
    if not isinstance(value, dict | int) or isinstance(value, bool):
        keys = ", ".join(SearchSettings.model_fields)
        raise key.error(value, f"expected a number of trials per method, or a table with {keys}")
    table = value if isinstance(value, dict) else {"trials": value}
    if isinstance(table.get("split"), int) and not isinstance(table["split"], bool):
        table = table | {"split": str(table["split"])}
    settings = parse_settings(SearchSettings, table, key)
    for name in settings.metric.split("+"):
        if name not in validation_metrics():
            raise unknown("metric", name, validation_metrics(), f"{key}.metric")
    return settings


def find_ranges(table: Table, kind: type[BaseModel], key: Key) -> dict[str, Range]:
    """The ranges in the table at `key`: lists where one value is expected, and tables of bounds."""
    ranges: dict[str, Range] = {}
    for name, value in table.items():
        accepted = accepted_types(name, kind)
        is_table = any(issubclass(one, Mapping) for one in accepted)
        if isinstance(value, list):
            takes_list = any(issubclass(t, Sequence | set) and t is not str for t in accepted)
            if accepted and not takes_list:
                _check_listed(value, key / name)
                ranges[name] = Choices(values=tuple(value))
        elif isinstance(value, dict) and {"low", "high"} & value.keys() and not is_table:
            ranges[name] = _parse_interval(value, accepted, key / name)
    return ranges


def combinations(table: Table, kind: type[BaseModel], key: Key) -> Iterator[tuple[Table, Table]]:
    """Every combination of the values that keys list where one value is expected."""
    ranges = find_ranges(table, kind, key)
    for name, one in ranges.items():
        if isinstance(one, NumberRange):
            remedy = "Add `search = 20` (trials per method) at the top of the file, or list values"
            problem = f"only a search samples from an interval. {remedy}"
            raise (key / name).error(table[name], problem)
    for values in itertools.product(*(one.values for one in ranges.values())):
        chosen = dict(zip(ranges, values, strict=True))
        yield table | chosen, chosen


def tables_to_validate(
    table: Table, kind: type[BaseModel], key: Key
) -> Iterator[tuple[Table, Table]]:
    """The tables to validate: first without ranges, then with each test value of each range."""
    ranges = find_ranges(table, kind, key)
    fixed = {name: value for name, value in table.items() if name not in ranges}
    yield fixed, {}
    for name, one in ranges.items():
        yield from ((fixed | {name: value}, {name: value}) for value in one.values)


def _check_listed(values: Sequence[Any], key: Key) -> None:
    if not values:
        raise key.error(values, "at least one value is required")
    for first, second in itertools.combinations(values, 2):  # True is not 1 here
        if first == second and isinstance(first, bool) == isinstance(second, bool):
            raise key.error(values, f"{second!r} is listed twice; list it once")


def _parse_interval(table: Table, accepted: set[type], key: Key) -> NumberRange:
    bounds = parse_settings(_Bounds, table, key)
    low, high, log = bounds.low, bounds.high, bounds.log
    whole = isinstance(low, int) and isinstance(high, int) and float not in accepted
    for wrong, problem in (
        (accepted and not accepted & {int, float}, "this key does not take a number"),
        (accepted and float not in accepted and not whole, "expected whole numbers"),
        (low >= high, "low must be below high"),
    ):
        if wrong:
            raise key.error([low, high], problem)
    if log and low <= 0:
        raise (key / "low").error(low, "with `log` it must be above 0")
    return NumberRange(low=low, high=high, log=log, whole=whole)
