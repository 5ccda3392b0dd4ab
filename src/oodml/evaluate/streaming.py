"""Retrieval in galleries that do not fit into memory: the gallery is read, counted, and dropped.

The positives of some classes are read first. Then all other gallery vectors pass once, and the
ranks of the positives follow from counts, exactly as in memory.
"""

import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError, unknown
from oodml.evaluate.evaluation import Evaluation, evaluation_notes, summarize
from oodml.evaluate.inputs import as_vectors
from oodml.evaluate.precision import Comparable
from oodml.evaluate.protocol import RetrievalProtocol, gallery_protocol
from oodml.evaluate.ranks import Counts, MoreColumns, count_columns, scratch_memory
from oodml.evaluate.retrieval import PerQuery, check_cutoffs, query_metrics
from oodml.evaluate.shards import Shard, Shards
from oodml.progress import Progress
from oodml.vectors import VectorSet

BLOCKS = 8  # blocks of queries that are counted while a file is read once
POSITIVE_BYTES = 64  # memory per pair of a query and a positive: scores, limits, counts, and ranks
UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def parse_memory(text: str) -> int:
    """The number of bytes of a text such as "4GB" or "500 MB"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", text.upper())
    if not match or match[2] not in UNITS or float(match[1]) == 0:
        raise OodmlError(f"memory: {text!r} is not a size", "memory", text, ("as 4GB or 500MB",))
    return int(float(match[1]) * UNITS[match[2]])


@dataclass(frozen=True)
class _Search:
    """The gallery, and the queries, which are rows of it or come from elsewhere."""

    gallery: Shards
    codes: NDArray[np.int32]  # [q] the class of each query
    gallery_codes: NDArray[np.int32]  # [n] of each gallery row, -1 for classes without a query
    queries: NDArray[np.int64] | VectorSet
    ks: tuple[int, ...]
    distance: str
    seed: int
    device: torch.device  # where rows are compared, also on other machines
    mean: Tensor | None


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
    device: str = "cpu",
) -> Evaluation:
    """Compute retrieval metrics in a gallery of any size.

    Every result equals that of `evaluate_vectors` with `retrieval_only` on the same vectors.

    Args:
        queries: the vectors to search for; None if the gallery is searched for its own vectors.
        memory: bytes to use for positives and their ranks. Less memory means more passes.
        n_queries: without `queries`, how many rows of the gallery are queries: a sample in
            which every class has its share; `intervals` then has 95% confidence intervals.
        device: where vectors are compared. CUDA rounds differently than the CPU, so near ties may
            be ranked differently.
    """
    cutoffs = check_cutoffs(ks)
    if distance not in ("cosine", "euclidean"):
        raise unknown("distance", distance, ("cosine", "euclidean"))
    searched: NDArray[np.int64] | VectorSet
    if queries is None:
        names, codes = gallery.classes()
        rows = np.arange(len(gallery))
        searched = rows if n_queries is None else sample_queries(codes, n_queries, seed)
        own = codes[searched]
    else:
        names, codes = gallery.classes(np.asarray(queries.class_names))
        searched, own = queries, queries.labels.astype(np.int32)
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    passes = list(_passes(own, sizes, gallery.dimensions, memory))
    mean = gallery.mean() if distance == "euclidean" else None
    place = torch.device(device)
    search = _Search(gallery, own, codes, searched, cutoffs, distance, seed, place, mean)
    values: PerQuery = {}
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        with Progress("Gallery", len(gallery) * len(passes), "vectors") as progress:
            for part in passes:
                for name, column in _one_pass(search, part, progress.advance).items():
                    values.setdefault(name, np.full(len(own), np.nan))[part] = column
    excluded = 0 if queries is None else int((len(gallery) - values["gallery_size"]).sum())
    result = summarize(values, names[own], cutoffs, average, gallery.dimensions)
    texts = list(dict.fromkeys(str(warning.message) for warning in raised))
    notes = evaluation_notes({"self_matches": excluded}, texts)
    if queries is None and n_queries is not None:
        result.intervals.update(sample_intervals(values, len(gallery)))
    return replace(result, notes=notes)


def _passes(
    codes: NDArray[np.int32], sizes: NDArray[np.int64], dimensions: int, memory: int
) -> Iterator[NDArray[np.int64]]:
    """Divide the queries by class, so that the positives of each part fit into memory."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(sizes))
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


def _one_pass(search: _Search, part: NDArray[np.int64], advance: Callable[[int], None]) -> PerQuery:
    """The metrics of some queries; their classes' rows are read first, then all others pass."""
    in_classes = np.zeros(int(max(search.gallery_codes.max(), search.codes.max())) + 2, np.bool_)
    in_classes[search.codes[part]] = True
    rows = np.flatnonzero(in_classes[search.gallery_codes])  # -1 is the last entry, which is False
    protocol, rows = _protocol(search, part, rows)
    is_local = search.gallery.spread is itertools.starmap  # this process reads the files
    device = search.device if is_local else torch.device("cpu")
    others = None if protocol.gallery is None else protocol.gallery.to(device)
    protocol = replace(protocol, queries=protocol.queries.to(device), gallery=others)

    def count(vectors: Comparable, blocks: list[Counts]) -> None:
        form = replace(vectors, queries=vectors.queries[:1], gallery=None)
        groups = [blocks[i : i + BLOCKS] for i in range(0, len(blocks), BLOCKS)]
        files = list(search.gallery.split(rows))
        options = search.distance, search.device, advance if is_local else None
        jobs = ((*file, form, group, *options) for file in files for group in groups)
        targets = ((shard, group) for shard, _ in files for group in groups)
        counts = search.gallery.spread(count_shard, jobs)
        for (shard, group), above in zip(targets, counts, strict=True):
            for block, more in zip(group, above, strict=True):
                block.above.add_(more.to(device))
            if not is_local and group is groups[-1]:
                advance(shard.rows)

    generator = torch.Generator(device).manual_seed(search.seed)
    more = MoreColumns(count, len(search.gallery) - len(rows), search.mean)
    return query_metrics(protocol, search.ks, search.distance, generator, more)


def count_shard(
    shard: Shard,
    skipped: NDArray[np.int64],
    vectors: Comparable,
    blocks: Sequence[Counts],
    distance: str,
    device: torch.device,
    advance: Callable[[int], None] | None = None,
) -> list[Tensor]:
    """The counts above the limits [c b p] of all rows of a file except `skipped`, which ascend."""
    center = None if vectors.center is None else vectors.center.to(device)
    vectors = replace(vectors, queries=vectors.queries.to(device), center=center)
    blocks = [
        Counts(b.queries.to(device), b.limits.to(device), torch.zeros_like(b.above, device=device))
        for b in blocks
    ]
    scratch, begin = scratch_memory(vectors.queries), 0
    for chunk in shard.chunks(device):
        low, high = np.searchsorted(skipped, (begin, begin + len(chunk)))
        others = chunk
        if high > low:
            remaining = np.delete(np.arange(len(chunk)), skipped[low:high] - begin)
            others = chunk[torch.from_numpy(remaining).to(device)]
        if len(others):
            columns = vectors.prepare(as_vectors(others, distance, str(shard.path)))
            count_columns(vectors, columns, blocks, scratch)
        begin += len(chunk)
        if advance is not None:
            advance(len(chunk))
    return [block.above.cpu() for block in blocks]


def _protocol(
    search: _Search, part: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[RetrievalProtocol, NDArray[np.int64]]:
    """The protocol of some queries among all gallery rows of their classes, and these rows [r].

    Rows that share an id with a query from elsewhere are read with them.
    """
    gallery, codes = search.gallery, search.gallery_codes
    if not isinstance(search.queries, VectorSet):
        vectors = as_vectors(gallery.vectors(rows), search.distance, str(gallery.folder))
        groups, own = codes[rows].astype(np.int64), np.searchsorted(rows, search.queries[part])
        pairs = np.arange(len(own)), own
        return RetrievalProtocol(vectors[own], groups[own], vectors, groups, pairs), rows
    queries, ids = search.queries.select(part), None
    if queries.has_ids:
        rows = np.union1d(rows, gallery.rows_with_ids(queries.ids))
        ids = gallery.ids(rows)
    if not len(rows):
        rows = np.arange(1)  # a protocol needs a gallery; without positives nothing is ranked
        ids = None
    names = np.append(search.queries.class_names, "other classes of the gallery")
    protocol = gallery_protocol(
        queries.vectors, queries.classes, search.distance, gallery=gallery.vectors(rows),
        gallery_labels=names[codes[rows]], ids=None if ids is None else queries.ids,
        gallery_ids=ids,
    )  # fmt: skip
    return protocol, rows


def sample_queries(codes: NDArray[Any], n: int, seed: int) -> NDArray[np.int64]:
    """Draw rows so that each class has its share: one from each of n equal parts of the rows.

    The rows are sorted by class in random order, and in random order within a class.
    """
    if not 2 <= n <= len(codes):
        problem, allowed = f"queries: {n} of {len(codes)} vectors", (f"2 to {len(codes)}",)
        raise OodmlError(problem, "queries", n, allowed)
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
