"""The metrics of one family together with the functions that compute them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from oodml.results.metrics import Chance, Family, Metric, register_metric

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


class MetricFamily:
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
        self, ks: Iterable[int] = (), *, published: bool = True, expected: bool = False
    ) -> dict[str, Callable[..., Any]]:
        """The function of each metric by its name, with one entry per k for "@k" metrics.

        With `expected`, that of its value under a random ranking, for the metrics that have one.
        """
        functions: dict[str, Callable[..., Any]] = {}
        for name, one in self.definitions.items():
            function = one.expected if expected else one.compute
            if function is None or (one.metric.published and not published):
                continue
            if "@k" in name:
                functions |= {name.replace("@k", f"@{k}"): partial(function, k=k) for k in ks}
            else:
                functions[name] = function
        return functions
