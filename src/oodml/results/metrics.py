"""What a metric is, and the registry of all metrics.

The functions that compute metrics register them (`oodml.evaluate`). Analysis, the report, and the
command line look metrics up with `find_metric`; none of them contains a metric's name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

Family = Literal["retrieval", "clustering", "structure", "count", "other"]
Chance = Literal["random ranking", "random clusters"]


@dataclass(frozen=True)
class Metric:
    """A metric and how to present it.

    Attributes:
        name: the name in the results table. A trailing "@k" stands for any number, as in
            "recall@k"; "_published" at the end marks the original study's variant.
        label: the name in figures and prose, with "@k" as in `name`.
        family: "retrieval" and "clustering" measure quality, "structure" describes the embedding,
            "count" counts queries or images, "other" is anything unregistered.
        bounds: the smallest and the largest possible value.
        higher_is_better: None where neither direction is better.
        chance: the baseline that the metric's chance level refers to, or None.
        published: whether it is a variant of the original study.
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
        """Whether the metric measures the quality of retrieval or clustering."""
        return self.family in ("retrieval", "clustering")


_REGISTRY: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a metric to the registry; its position there is its position in tables and menus."""
    _REGISTRY[metric.name] = metric
    return metric


def find_metric(name: str) -> Metric:
    """The metric of a name in the results table, such as "recall@10" for "recall@k".

    An unregistered name has the family "other", its own name as a label, and no bounds.
    """
    base, published = name.removesuffix("_published"), name.endswith("_published")
    found = _REGISTRY.get(name) or _REGISTRY.get(base)
    if found is None:
        stem, _, k = base.rpartition("@")
        found = _REGISTRY.get(f"{stem}@k")
        if found is not None and k.lstrip("-").isdigit():
            found = replace(found, label=found.label.replace("@k", f"@{k}"))
        else:
            found = Metric(name, name, "other", (-inf, inf), None)
    if published and not found.published:
        found = replace(found, label=f"{found.label} (as published)", published=True)
    return replace(found, name=name)


def sort_metrics(names: Iterable[str]) -> list[str]:
    """Sort names for display: Recall@1, other quality metrics, structure, published variants."""
    order = {name: position for position, name in enumerate(_REGISTRY)}
    families = ("retrieval", "clustering", "structure", "other", "count")

    def key(name: str) -> tuple[bool, bool, int, int, str, int]:
        metric = find_metric(name)
        stem, _, k = name.removesuffix("_published").rpartition("@")
        position = order.get(name, order.get(f"{stem}@k", len(order)))
        number = int(k) if k.lstrip("-").isdigit() else 0
        family = families.index(metric.family)
        return name != "recall@1", metric.published, family, position, stem, number

    return sorted(names, key=key)
