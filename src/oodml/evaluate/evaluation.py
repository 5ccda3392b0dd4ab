"""All metrics of a set of vectors, as `oodml evaluate` prints them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from oodml.arrays import Names
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate import retrieval
from oodml.evaluate.clustering import chance_clustering, clustering_metrics
from oodml.evaluate.query_lists import query_lists
from oodml.evaluate.registry import find_metric
from oodml.evaluate.structure import structure_metrics
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a set of vectors."""

    metrics: dict[str, float]
    chance: dict[str, float]  # the chance level of each retrieval and clustering metric
    per_class: pd.DataFrame  # one row per class of the queries
    answer: str  # the first metric and its chance level as a sentence
    notes: tuple[str, ...]  # what affects how the numbers must be read, one sentence each
    sizes: dict[str, int]  # the numbers of vectors, dimensions, classes, and excluded self-matches
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of metrics that were computed from a sample of the queries."""


def evaluate_vectors(
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
    """Compute retrieval, clustering, and structure metrics with their chance levels.

    Args:
        gallery: the vectors to search; if None, each query searches the other queries.
        by: "class", or "superclass" to count other classes of the same superclass as positives.
        average: over queries ("micro") or over classes ("macro").
    """
    if by not in ("class", "superclass"):
        raise unknown("relevance", by, ("class", "superclass"))
    everything, queries, gallery, listed = apply_lists(queries, gallery)
    grouped = _superclasses(queries) if by == "superclass" else None
    options: dict[str, Any] = {"ks": ks, "relevance": grouped}
    if gallery is not None:
        options |= {"gallery": gallery.vectors, "gallery_labels": gallery.classes}
        if by == "superclass":
            options["gallery_relevance"] = _superclasses(gallery)
        if everything is not queries or (queries.has_ids and gallery.has_ids):  # of one file
            options |= {"ids": queries.ids, "gallery_ids": gallery.ids}
    options |= {"distance": distance, "seed": seed, "average": average, "per_query": True}
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        values = retrieval.retrieval_metrics(queries.vectors, queries.classes, **options)
    excluded = 0 if gallery is None else int((len(gallery) - values["gallery_size"]).sum())
    result = summarize(values, queries.classes, ks, average, queries.vectors.shape[1], by)
    if not retrieval_only:
        rows, labels = everything.vectors, everything.labels
        options = {"seed": seed, "restarts": restarts, "distance": distance}
        result.metrics.update(clustering_metrics(rows, labels, **options))
        result.metrics.update(structure_metrics(rows, labels))
        result.chance.update(chance_clustering(np.bincount(labels), seed))
    skipped = [one.source.get("skipped_unlabeled", 0) for one in (queries, gallery) if one]
    sizes = {
        "vectors": len(everything),
        "dimensions": queries.vectors.shape[1],
        "classes": len(everything.class_names),
        "self_matches": excluded,
        "unlabeled": sum(map(int, skipped)),
    }
    notes = (*listed, *evaluation_notes(sizes, [str(warning.message) for warning in raised]))
    return replace(result, sizes=sizes, notes=notes)


def summarize(
    values: retrieval.PerQuery,
    classes: Names,
    ks: Sequence[int],
    average: str,
    dimensions: int,
    by: str = "class",
) -> Evaluation:
    """Average the retrieval metrics [n] of queries, as `evaluate_vectors` with `retrieval_only`."""
    ranked = values.pop("gallery_size")
    metrics = retrieval.average_metrics(values, classes, average)
    chance = retrieval.chance_metrics(values["positives"], ranked, ks=ks)
    names, columns = retrieval.metrics_per_class(values, classes)
    images = np.unique(classes, return_counts=True)[1]
    sizes = {"vectors": len(classes), "dimensions": dimensions, "classes": len(names)}
    table = pd.DataFrame({"class": names, "images": images}).assign(**columns)
    first, where = next(iter(metrics)), "" if average == "micro" else ", averaged over classes"
    value, expected = metrics[first], chance[first]
    if first == "recall@1":
        claim = f"The nearest neighbor has the same {by} for {value:.1%} of the queries"
        answer = f"{claim}{where} (chance: {expected:.1%})."
    else:
        answer = f"{find_metric(first).label} is {value:.4f}{where} (chance: {expected:.4f})."
    return Evaluation(metrics, chance, table, answer, (), sizes)


def apply_lists(
    vectors: VectorSet, gallery: VectorSet | None
) -> tuple[VectorSet, VectorSet, VectorSet | None, list[str]]:
    """All vectors, the queries and the gallery by a file's own lists or as given, and notes."""
    lists = query_lists(vectors)
    if lists is None:
        return vectors, vectors, gallery, []
    if gallery is not None:
        ignored = "The lists of queries and gallery in the file are not used: a gallery is given."
        return vectors, vectors, gallery, [ignored]
    queries, gallery = vectors.select(lists.queries), vectors.select(lists.gallery)
    every = vectors.select(lists.queries | lists.gallery)
    left = len(vectors) - len(every)
    rest = f"; {left} other images are left out." if left else "."
    note = f"The file lists {len(queries)} queries and a gallery of {len(gallery)} images{rest}"
    return every, queries, gallery, [note]


def evaluation_notes(sizes: dict[str, int], warned: list[str]) -> tuple[str, ...]:
    """Sentences about warnings, excluded self-matches, and excluded rows."""
    notes = [f"{text[0].upper()}{text[1:]}." for text in warned]
    if sizes.get("self_matches"):
        notes.append(
            f"{sizes['self_matches']} gallery images are a query's own image (same id and vector) "
            "and are not ranked for it."
        )
    if sizes.get("unlabeled"):
        notes.append(f"{sizes['unlabeled']} rows without a label are excluded.")
    return tuple(notes)


def align_by_id(a: VectorSet, b: VectorSet, a_name: str = "A", b_name: str = "B") -> VectorSet:
    """Sort the rows of `b` into the order of the ids of `a`."""
    first, second = pd.Index(a.ids), pd.Index(b.ids)
    for ids, name in ((first, a_name), (second, b_name)):
        if ids.has_duplicates:
            image = str(ids[ids.duplicated()].min())
            raise error_at(name, f"id {image!r} appears twice; ids must be unique", image)
    for missing, name in ((first.difference(second), b_name), (second.difference(first), a_name)):
        if len(missing):
            problem = f"no vector of image {missing[0]!r} ({len(missing)} images are missing)"
            raise error_at(name, problem, missing[0])
    aligned = b.select(second.get_indexer(first))
    for row in np.flatnonzero(aligned.classes != a.classes)[:1]:
        image, one, other = str(a.ids[row]), str(a.classes[row]), str(aligned.classes[row])
        problem = f"image {image!r} has class {one!r} in {a_name} and {other!r} in {b_name}"
        raise OodmlError(problem, b_name, image)
    return aligned


def _superclasses(vectors: VectorSet) -> Names:
    if vectors.superclasses is None:
        problem = "relevance by superclass: the vectors have no superclasses"
        raise OodmlError(problem, location="superclasses")
    return vectors.superclasses
