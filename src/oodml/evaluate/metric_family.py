"""The metrics of one family together with the functions that compute them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from oodml.results.metrics import Chance, Family, Metric, register_metric

Inputs = TypeVar("Inputs")
Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Definition:
    """A metric, how to compute it, and for retrieval its value under a random ranking.

    The functions take the family's inputs, or the number of positives per query and the size of
    the gallery. Those of "@k" metrics also take k.
    """

    metric: Metric
    compute: Callable[..., Any]
    expected: Callable[..., Any] | None

    def expand(
        self, function: Callable[..., Any], ks: Iterable[int]
    ) -> dict[str, Callable[..., Any]]:
        """A function by the metric's name, with one entry per k for "@k" metrics."""
        name = self.metric.name
        if "@k" not in name:
            return {name: function}
        return {name.replace("@k", f"@{k}"): partial(function, k=k) for k in ks}


class MetricFamily(Generic[Inputs, Value]):
    """Metrics of one family that are computed from the same inputs, in the order of display."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.definitions: dict[str, Definition] = {}

    def define(
        self,
        name: str,
        label: str,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
        higher_is_better: bool | None = True,
        chance: Chance | None = None,
        expected: Callable[..., Any] | None = None,
        published: bool = False,
    ) -> Callable[[Function], Function]:
        """A decorator that registers a function as a metric; see `Metric` and `Definition`."""
        baseline: Chance | None = "random ranking" if expected is not None else chance
        metric = Metric(name, label, self.family, bounds, higher_is_better, baseline, published)

        def decorate(compute: Function) -> Function:
            self.definitions[name] = Definition(register_metric(metric), compute, expected)
            return compute

        return decorate

    def functions(
        self, ks: Iterable[int] = (), *, published: bool = True
    ) -> dict[str, Callable[[Inputs], Value]]:
        """The function of each metric by its name, with one entry per k for "@k" metrics."""
        functions: dict[str, Callable[[Inputs], Value]] = {}
        for one in self.definitions.values():
            if published or not one.metric.published:
                functions |= one.expand(one.compute, ks)
        return functions

    def expected_values(self, ks: Iterable[int] = ()) -> dict[str, Callable[..., Any]]:
        """The expected value of each metric that has one, as in `functions`."""
        functions: dict[str, Callable[..., Any]] = {}
        for one in self.definitions.values():
            if one.expected is not None:
                functions |= one.expand(one.expected, ks)
        return functions
