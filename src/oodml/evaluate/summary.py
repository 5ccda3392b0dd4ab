"""All measures of one set of vectors, as `oodml evaluate` shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from oodml.arrays import Names
from oodml.errors import OodmlError, unknown
from oodml.evaluate.chance import chance_metrics
from oodml.evaluate.clustering import clustering_metrics
from oodml.evaluate.retrieval import average_metrics, metrics_per_class, retrieval_metrics
from oodml.evaluate.structure import structure_metrics
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Evaluation:
    """metrics and chance by name; per_class: one row a class of the queries."""

    metrics: dict[str, float]
    chance: dict[str, float]
    per_class: pd.DataFrame


def evaluation(
    queries: VectorSet,
    gallery: VectorSet | None = None,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    distance: str = "cosine",
    by: str = "class",
    average: str = "micro",
    seed: int = 0,
    restarts: int = 1,
    retrieval_only: bool = False,
) -> Evaluation:
    """Retrieval of queries in a gallery or among themselves; clusters, structure of the queries.

    by: "class", or "superclass" to count another class of the same superclass as right.
    Raises `OodmlError` for bad options, and as the metrics do.
    """
    if by not in ("class", "superclass"):
        raise unknown("relevance", by, ("class", "superclass"))
    if average not in ("micro", "macro"):
        raise unknown("average", average, ("micro", "macro"))
    groups = _superclasses(queries) if by == "superclass" else None
    options: dict[str, Any] = {}
    if gallery is not None:
        options = {"gallery": gallery.vectors, "gallery_labels": gallery.classes}
        if groups is not None:
            options["gallery_relevance"] = _superclasses(gallery)
    values = retrieval_metrics(
        queries.vectors,
        queries.classes,
        ks=ks,
        distance=distance,
        seed=seed,
        relevance=groups,
        per_query=True,
        **options,
    )
    metrics = average_metrics(values, queries.classes, average)
    if not retrieval_only:
        metrics |= clustering_metrics(
            queries.vectors, queries.classes, seed=seed, restarts=restarts, distance=distance
        )
        metrics |= structure_metrics(queries.vectors, queries.classes)
    size = len(queries) - 1 if gallery is None else len(gallery)
    chance = chance_metrics(values["positives"], size, ks=ks)
    names, columns = metrics_per_class(values, queries.classes)
    table = pd.DataFrame(
        {"class": names, "images": np.unique(queries.labels, return_counts=True)[1]}
    )
    return Evaluation(metrics, dict(chance), table.assign(**columns))


def aligned(a: VectorSet, b: VectorSet, a_name: str = "A", b_name: str = "B") -> VectorSet:
    """The rows of `b` in the order of the ids of `a`.

    Raises `OodmlError` where ids repeat, one set lacks an id, or classes of an image differ.
    """
    orders = []
    for one, name in ((a, a_name), (b, b_name)):
        order = np.argsort(one.ids, kind="stable")
        ids = one.ids[order]
        twice = ids[1:][ids[1:] == ids[:-1]]
        if len(twice):
            raise OodmlError(f"{name}: id {str(twice[0])!r} stands twice; ids must be unique")
        orders.append(order)
    missing = [np.setdiff1d(a.ids, b.ids), np.setdiff1d(b.ids, a.ids)]
    for ids, name in zip(missing, (b_name, a_name), strict=True):
        if len(ids):
            raise OodmlError(f"{name} has no vector of image {str(ids[0])!r} ({len(ids)} missing)")
    rows = np.empty(len(a), dtype=np.int64)
    rows[orders[0]] = orders[1]
    found = b.select(rows)
    other = np.flatnonzero(found.classes != a.classes)
    if len(other):
        raise OodmlError(f"image {str(a.ids[other[0]])!r} has another class in {b_name}")
    return found


def _superclasses(vectors: VectorSet) -> Names:
    if vectors.superclasses is None:
        raise OodmlError("relevance by superclass: the vectors have no superclasses")
    return vectors.superclasses
