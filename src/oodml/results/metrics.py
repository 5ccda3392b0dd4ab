"""What a metric is, and their registry; import it through `oodml.evaluate.registry`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Literal, get_args

from oodml.errors import OodmlError

Family = Literal[
    "retrieval", "clustering", "classification", "structure", "open_set", "compression", "other",
    "count",
]  # fmt: skip
FAMILIES: tuple[Family, ...] = get_args(Family)
"""The families in the order of display."""
Chance = Literal["random ranking", "random clusters"]
PUBLISHED = "_published"
_TOLERANCE = 1e-6
"""How far rounding may push a value beyond its bounds."""


@dataclass(frozen=True)
class Metric:
    """A metric and how to present it.

    In `name`, that of the results table, and `label`, "@k" represents any integer; "_published"
    marks the original study's variant. Of the families, "structure" describes the embedding,
    "open_set" and "compression" the decisions that it is used for, "count" are numbers of queries
    or images, and "other" is unregistered. `chance` is the baseline of the chance level.
    """

    name: str
    label: str
    family: Family
    bounds: tuple[float, float] = (0.0, 1.0)
    higher_is_better: bool | None = True
    chance: Chance | None = None
    published: bool = False

    @property
    def is_quality(self) -> bool:
        return self.family in ("retrieval", "clustering", "classification")


_REGISTRY: dict[str, Metric] = {}


def register_metric(metric: Metric) -> Metric:
    """Add a metric to the registry; its position determines its position within its family."""
    _REGISTRY[metric.name] = metric
    return metric


def registered_metrics() -> list[Metric]:
    """All registered metrics, in the order of display: by family, then as registered."""
    return sorted(_REGISTRY.values(), key=lambda metric: FAMILIES.index(metric.family))


def find_metric(name: str) -> Metric:
    """The metric of a name in the results table, such as "recall@10" for "recall@k"."""
    base, k, published = _parse(name)
    metric = _REGISTRY.get(base + PUBLISHED if published else base) or _REGISTRY.get(base)
    if metric is None:
        metric = Metric(name, name.removesuffix(PUBLISHED), "other", (-inf, inf), None)
    label = metric.label if k is None else metric.label.replace("@k", f"@{k}")
    if published and not metric.published:
        label = f"{label} (as published)"
    return replace(metric, name=name, label=label, published=published)


def sort_metrics(names: Iterable[str]) -> list[str]:
    """Sort names for display: Recall@1, other quality metrics, structure, published variants."""
    order = {name: position for position, name in enumerate(_REGISTRY)}

    def key(name: str) -> tuple[bool, bool, int, int, str, int]:
        metric, (base, k, published) = find_metric(name), _parse(name)
        position = order.get(base, order.get(base + PUBLISHED, len(order)))
        family = FAMILIES.index(metric.family)
        return name != "recall@1", published, family, position, base, k or 0

    return sorted(names, key=key)


def cutoffs(names: Iterable[str]) -> tuple[int, ...]:
    """The numbers k in names such as "recall@10", sorted."""
    return tuple(sorted({k for _, k, _ in map(_parse, names) if k}))


def check_bounds(name: str, value: float) -> float:
    """Return the value unchanged if it is within the metric's bounds or NaN."""
    low, high = find_metric(name).bounds
    if not math.isnan(value) and not low - _TOLERANCE <= value <= high + _TOLERANCE:
        problem = f"internal error: {name} is {value}, outside {low} to {high}"
        remedy = "Please report it with the vectors that cause it."
        raise OodmlError(f"{problem}. {remedy}", name, value, (str(low), str(high)))
    return value


def _parse(name: str) -> tuple[str, int | None, bool]:
    """The registered form of a name ("recall@k"), its k, and whether it is "_published"."""
    base, published = name.removesuffix(PUBLISHED), name.endswith(PUBLISHED)
    stem, _, k = base.rpartition("@")
    is_exact = base in _REGISTRY or base + PUBLISHED in _REGISTRY
    if is_exact or f"{stem}@k" not in _REGISTRY or not k.lstrip("-").isdigit():
        return base, None, published
    return f"{stem}@k", int(k), published
