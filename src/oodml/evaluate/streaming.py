"""Retrieval in galleries that do not fit into memory: the gallery is read, counted, and dropped.

The positives of some classes are read first. Then all other gallery vectors pass once, and the
ranks of the positives follow from counts, exactly as in memory.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError, unknown
from oodml.evaluate.evaluation import Evaluation, evaluation_notes, summarize
from oodml.evaluate.inputs import as_vectors
from oodml.evaluate.protocol import RetrievalProtocol, gallery_protocol
from oodml.evaluate.ranks import MoreColumns
from oodml.evaluate.retrieval import PerQuery, check_cutoffs, query_metrics
from oodml.evaluate.shards import Shards
from oodml.progress import Progress
from oodml.vectors import VectorSet

POSITIVE_BYTES = 64
"""Memory per pair of a query and a positive: scores, limits, counts, and ranks."""
UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def parse_memory(text: str) -> int:
    """The number of bytes of a text such as "4GB" or "500 MB"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", text.upper())
    if not match or match[2] not in UNITS or float(match[1]) == 0:
        raise OodmlError(
            f"memory: {text!r} is not a size",
            location="memory",
            given=text,
            allowed=("such as 4GB or 500MB",),
        )
    return int(float(match[1]) * UNITS[match[2]])


@dataclass(frozen=True)
class _Queries:
    """Queries that are rows of the gallery (`rows`) or come from elsewhere (`vectors`)."""

    codes: NDArray[np.int32]
    rows: NDArray[np.int64] | None = None
    vectors: VectorSet | None = None

    def __len__(self) -> int:
        return len(self.codes)


def evaluate_shards(
    queries: VectorSet | None,
    gallery: Shards,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    distance: str = "cosine",
    average: str = "micro",
    seed: int = 0,
    memory: int = 2**31,
    n_queries: int | None = None,
) -> Evaluation:
    """Compute retrieval metrics in a gallery of any size.

    Every result equals that of `evaluate_vectors` with `retrieval_only` on the same vectors.

    Args:
        queries: the vectors to search for; None if the gallery is searched for its own vectors.
        gallery: the vectors to search in.
        memory: bytes to use for positives and their ranks. Less memory means more passes.
        n_queries: without `queries`, how many rows of the gallery are queries: a sample in
            which every class has its share; `intervals` then has 95% confidence intervals.

    Raises:
        OodmlError: if files disagree, vectors are not finite, or no query has a positive.
    """
    cutoffs = check_cutoffs(ks)
    if distance not in ("cosine", "euclidean"):
        raise unknown("distance", distance, ("cosine", "euclidean"))
    if queries is None:
        names, codes = gallery.classes()
        rows = np.arange(len(gallery))
        if n_queries is not None:
            rows = sample_queries(codes, n_queries, seed)
        selected = _Queries(codes[rows], rows)
    else:
        names, codes = gallery.classes(np.asarray(queries.class_names))
        selected = _Queries(queries.labels.astype(np.int32), vectors=queries)
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    values: PerQuery = {}
    passes = list(_passes(selected, sizes, gallery.dimensions, memory))
    mean = _mean(gallery) if distance == "euclidean" else None
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        with Progress("Gallery", len(gallery) * len(passes), "vectors") as progress:
            for part in passes:
                columns = _one_pass(
                    selected, part, codes, gallery, mean, cutoffs, distance, seed, progress
                )
                for name, column in columns.items():
                    values.setdefault(name, np.full(len(selected), np.nan))[part] = column
    excluded = 0 if queries is None else int((len(gallery) - values["gallery_size"]).sum())
    result = summarize(values, names[selected.codes], cutoffs, average, gallery.dimensions)
    texts = list(dict.fromkeys(str(warning.message) for warning in raised))
    notes = evaluation_notes({"self_matches": excluded}, texts)
    if queries is None and n_queries is not None:
        result.intervals.update(sample_intervals(values, len(gallery)))
    return replace(result, notes=notes)


def _passes(
    queries: _Queries, sizes: NDArray[np.int64], dimensions: int, memory: int
) -> Iterator[NDArray[np.int64]]:
    """Divide the queries by class, so that the positives of each part fit into memory."""
    order = np.argsort(queries.codes, kind="stable")
    counts = np.bincount(queries.codes, minlength=len(sizes))
    # Rows are in memory as read, as float32, and normalized; every pair has scores and counts.
    cost = sizes * dimensions * 12 + counts * sizes * POSITIVE_BYTES
    begin, first, total = 0, 0, 0
    for code, class_cost in enumerate(cost.tolist()):
        if total and total + class_cost > memory:
            end = begin + int(counts[first:code].sum())
            yield order[begin:end]
            begin, first, total = end, code, 0
        total += class_cost
    yield order[begin:]


def _one_pass(
    queries: _Queries,
    part: NDArray[np.int64],
    codes: NDArray[np.int32],
    gallery: Shards,
    mean: Tensor | None,
    ks: tuple[int, ...],
    distance: str,
    seed: int,
    progress: Progress,
) -> PerQuery:
    """The metrics of some queries; their classes' rows are read first, then all others pass."""
    in_classes = np.zeros(int(max(codes.max(), queries.codes.max())) + 2, dtype=np.bool_)
    in_classes[queries.codes[part]] = True
    rows = np.flatnonzero(in_classes[codes])  # code -1 is the last entry, which stays False
    if queries.rows is None:
        protocol, rows = _search_protocol(queries.vectors, part, rows, codes, gallery, distance)
    else:
        protocol = _own_protocol(queries.rows[part], rows, codes, gallery, distance)

    def others() -> Iterator[Tensor]:
        for begin, chunk in gallery.chunks():
            low, high = np.searchsorted(rows, (begin, begin + len(chunk)))
            others = np.delete(chunk, rows[low:high] - begin, axis=0) if high > low else chunk
            if len(others):
                yield as_vectors(others, distance, str(gallery.folder))
            progress.advance(len(chunk))

    generator = torch.Generator().manual_seed(seed)
    more = MoreColumns(others, len(gallery) - len(rows), mean)
    return query_metrics(protocol, ks, distance, generator, more)


def _mean(gallery: Shards) -> Tensor:
    total = np.zeros(gallery.dimensions)
    for _, chunk in gallery.chunks():
        total += chunk.sum(0, dtype=np.float64)
    return torch.from_numpy(total / len(gallery))


def _search_protocol(
    queries: VectorSet | None,
    part: NDArray[np.int64],
    rows: NDArray[np.int64],
    codes: NDArray[np.int32],
    gallery: Shards,
    distance: str,
) -> tuple[RetrievalProtocol, NDArray[np.int64]]:
    """Queries from elsewhere; rows that share an id with a query are read with the positives."""
    assert queries is not None
    chosen, ids = queries.select(part), None
    if chosen.has_ids:
        rows = np.union1d(rows, gallery.rows_with_ids(chosen.ids))
        ids = gallery.ids(rows)
    if not len(rows):
        rows = np.arange(1)  # a protocol needs a gallery; without positives nothing is ranked
        ids = None
    names = np.append(queries.class_names, "other classes of the gallery")
    protocol = gallery_protocol(
        chosen.vectors,
        chosen.classes,
        distance,
        None,
        gallery=gallery.vectors(rows),
        gallery_labels=names[codes[rows]],
        gallery_relevance=None,
        ids=None if ids is None else chosen.ids,
        gallery_ids=ids,
    )
    return protocol, rows


def _own_protocol(
    queries: NDArray[np.int64],
    rows: NDArray[np.int64],
    codes: NDArray[np.int32],
    gallery: Shards,
    distance: str,
) -> RetrievalProtocol:
    """Queries that are gallery rows: [r] all rows of the queries' classes are in memory."""
    vectors = as_vectors(gallery.vectors(rows), distance, str(gallery.folder))
    groups = codes[rows].astype(np.int64)
    own = np.searchsorted(rows, queries)
    pairs = np.arange(len(queries)), own
    return RetrievalProtocol(vectors[own], groups[own], vectors, groups, pairs)


def sample_queries(codes: NDArray[Any], n: int, seed: int) -> NDArray[np.int64]:
    """Draw rows so that each class has its share: one from each of n equal parts of the rows.

    The rows are sorted by class in random order, and in random order within a class.
    """
    if not 2 <= n <= len(codes):
        raise OodmlError(
            f"queries: {n} of {len(codes)} vectors",
            location="queries",
            given=n,
            allowed=(f"2 to {len(codes)}",),
        )
    random = np.random.default_rng(seed)
    position = random.permutation(int(codes.max()) + 1)[codes]
    order = np.lexsort((random.random(len(codes)), position))
    edges = np.linspace(0, len(codes), n + 1).round().astype(np.int64)
    return np.asarray(order[random.integers(edges[:-1], edges[1:])])


def sample_intervals(
    values: PerQuery, n_rows: int, z: float = 1.959964
) -> dict[str, tuple[float, float]]:
    """95% intervals of the means over all rows, from the queries that `sample_queries` drew.

    The variance comes from the differences of neighboring parts (Wolter, Introduction to
    Variance Estimation, 2007, section 8.2), with the correction for a finite population.
    """
    intervals = {}
    scored = ~np.isnan(values["positives"])
    for name, column in values.items():
        y = column[scored]
        if name in ("positives", "gallery_size") or len(y) < 2:
            continue
        variance = np.square(np.diff(y)).sum() / (2 * (len(y) - 1)) / len(y)
        half = z * float(np.sqrt(variance * (1 - len(y) / n_rows)))
        intervals[name] = (float(y.mean()) - half, float(y.mean()) + half)
    return intervals
