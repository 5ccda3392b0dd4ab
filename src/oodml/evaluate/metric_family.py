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

    Attributes:
        compute: its value from the family's inputs; "@k" metrics also take the number k.
        expected: its expected value for a random ranking, from the number of positives per query
            and the size of the gallery; "@k" metrics also take k.
    """

    metric: Metric
    compute: Callable[..., Any]
    expected: Callable[..., Any] | None


class MetricFamily(Generic[Inputs, Value]):
    """Metrics that are computed from the same inputs, in the order of display.

    Args:
        family: the family that every metric is registered with.
    """

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

        def decorate(compute: Function) -> Function:
            metric = register_metric(
                Metric(name, label, self.family, bounds, higher_is_better, baseline, published)
            )
            self.definitions[name] = Definition(metric, compute, expected)
            return compute

        return decorate

    def functions(
        self, ks: Iterable[int] = (), *, published: bool = True
    ) -> dict[str, Callable[[Inputs], Value]]:
        """The function of each metric by its name, with one entry per k for "@k" metrics."""
        chosen = [
            definition
            for definition in self.definitions.values()
            if published or not definition.metric.published
        ]
        return {
            name: function
            for definition in chosen
            for name, function in _expand(definition.metric.name, definition.compute, ks)
        }

    def expected_values(self, ks: Iterable[int] = ()) -> dict[str, Callable[..., Any]]:
        """The expected value of each metric that has one, as in `functions`."""
        return {
            name: function
            for definition in self.definitions.values()
            if definition.expected is not None
            for name, function in _expand(definition.metric.name, definition.expected, ks)
        }


def _expand(
    name: str, function: Callable[..., Any], ks: Iterable[int]
) -> Iterable[tuple[str, Callable[..., Any]]]:
    if "@k" not in name:
        return [(name, function)]
    return [(name.replace("@k", f"@{k}"), partial(function, k=k)) for k in ks]
