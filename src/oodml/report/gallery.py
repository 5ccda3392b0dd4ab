"""Queries and their nearest neighbours, to see what a number means."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from oodml.arrays import Names
from oodml.report.folder import StudyFolder
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Gallery:
    """The same queries of one split, as each method answers them.

    queries: ids. query_classes: their classes. neighbours: of each method, [queries k] ids,
    nearest first; classes: of each method, [queries k].
    """

    split: str
    queries: tuple[str, ...]
    query_classes: tuple[str, ...]
    neighbours: Mapping[str, tuple[tuple[str, ...], ...]]
    classes: Mapping[str, tuple[tuple[str, ...], ...]]


def gallery(
    folder: StudyFolder, split: str, n_queries: int = 8, k: int = 7, seed: int = 0
) -> Gallery | None:
    """Choose queries of a split and look up their neighbours with each method's first seed.

    The queries stand for all: of a random sample, ordered by the share of right neighbours
    averaged over methods, evenly spaced ones from the worst to the best served, each of a class
    of its own where possible. None where no run of the split kept its vectors.
    """
    spaces = _spaces(folder, split)
    if not spaces:
        return None
    first = next(iter(spaces.values()))
    candidates = _candidates(first, seed)
    shares = [_right(space, candidates, k).mean(axis=1) for space in spaces.values()]
    chosen = _spaced(first, candidates, np.mean(shares, axis=0), n_queries)
    nearest = {name: neighbours(space, chosen, k) for name, space in spaces.items()}
    return Gallery(
        split,
        tuple(first.ids[chosen].tolist()),
        tuple(first.classes[chosen].tolist()),
        {name: _rows(spaces[name].ids[rows]) for name, rows in nearest.items()},
        {name: _rows(spaces[name].classes[rows]) for name, rows in nearest.items()},
    )


def neighbours(
    vectors: VectorSet, queries: Int[np.ndarray, " q"], k: int
) -> Int[np.ndarray, "q k"]:
    """The rows of the k images nearest each query by cosine, the query itself left out."""
    normal = vectors.vectors / np.maximum(
        np.linalg.norm(vectors.vectors, axis=1, keepdims=True), 1e-12
    )
    similarity: Float[np.ndarray, "q n"] = normal[queries] @ normal.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    k = min(k, len(vectors) - 1)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def _spaces(folder: StudyFolder, split: str) -> dict[str, VectorSet]:
    table = folder.table
    rows = table[(table["split"] == split) & (table["stage"] == "zero_shot")]
    first_seeds = rows.sort_values(["method", "seed"]).drop_duplicates("method")
    runs = zip(first_seeds["method"], first_seeds["run"], strict=True)
    found = {name: folder.vectors(run) for name, run in runs}
    spaces = {str(name): space for name, space in found.items() if space is not None}
    first = next(iter(spaces.values()), None)
    return {
        name: space
        for name, space in spaces.items()
        if first is not None and np.array_equal(space.ids, first.ids)
    }


def _candidates(vectors: VectorSet, seed: int, most: int = 400) -> Int[np.ndarray, " q"]:
    counts = np.bincount(vectors.labels)
    rows = np.flatnonzero(counts[vectors.labels] > 1)
    if len(rows) > most:
        rows = np.random.default_rng(seed).choice(rows, most, replace=False)
    return rows.astype(np.int64)


def _right(vectors: VectorSet, queries: Int[np.ndarray, " q"], k: int) -> Bool[np.ndarray, "q k"]:
    rows = neighbours(vectors, queries, k)
    return np.asarray(vectors.labels[rows] == vectors.labels[queries][:, None])


def _spaced(
    vectors: VectorSet,
    candidates: Int[np.ndarray, " q"],
    shares: Float[np.ndarray, " q"],
    n_queries: int,
) -> Int[np.ndarray, " chosen"]:
    order = candidates[np.lexsort((candidates, shares))]
    chosen: list[int] = []
    for part in np.array_split(order, min(n_queries, len(order))):
        seen = {vectors.labels[row] for row in chosen}
        middle = sorted(range(len(part)), key=lambda place: abs(place - len(part) // 2))
        new = [place for place in middle if vectors.labels[part[place]] not in seen]
        chosen.append(int(part[(new or middle)[0]]))
    return np.array(chosen, dtype=np.int64)


def _rows(array: Names) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row) for row in array.tolist())
