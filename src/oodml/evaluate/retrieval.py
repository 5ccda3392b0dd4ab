"""Retrieval: how often an image's nearest neighbors share its class."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.special import gammaln

from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.inputs import Array, as_labels, check_seed, encode_labels
from oodml.evaluate.metric_family import MetricFamily
from oodml.evaluate.protocol import RetrievalProtocol, gallery_protocol
from oodml.evaluate.ranks import NOT_RETRIEVED, MoreColumns, RankBlock, positive_ranks
from oodml.lazy_torch import Tensor, torch
from oodml.results.metrics import PUBLISHED, check_bounds

COUNTS = ("positives", "gallery_size")  # counts of each query that are returned with its metrics
PerQuery = dict[str, NDArray[np.float64]]
Score = Float[Tensor, " b"]
Counts = NDArray[np.int64]
"""The number of positives of each query, at least 1; `size` is that of the images ranked for it."""
Expected = NDArray[np.float64]


class RankedPositives:
    """The ranks of the positives of a block of queries, and what metrics compute from them.

    For each query, [b]: `counts` (R), `first` (the rank of the nearest positive), and `sizes` (the
    number of ranked images, if counted). For each positive, [b p]: the `ranks`, ascending, where
    `valid`; the `precision` there; and the `gains`, 1 unless graded, 0 if not `valid`.
    """

    def __init__(self, block: RankBlock) -> None:
        slots = torch.arange(1, block.ranks.shape[1] + 1, device=block.ranks.device)
        self.valid = block.valid
        self.ranks = block.ranks.double()
        if block.grades is not None:
            self.ranks.masked_fill_(block.ranks == NOT_RETRIEVED, torch.inf)
        self.counts = block.counts.double()
        self.first = self.ranks[:, 0]
        self.precision = slots / self.ranks * self.valid
        grades = torch.ones_like(self.ranks) if block.grades is None else block.grades.double()
        self.gains = grades * self.valid
        self.sizes = block.sizes

    def count_within(self, limit: Score | int) -> Score:
        """The number of positives at ranks up to the limit."""
        return self._is_within(limit).sum(1).double()

    def precision_sum(self, limit: Score | int) -> Score:
        """The sum of the precisions at the positives with ranks up to the limit."""
        return (self.precision * self._is_within(limit)).sum(1)

    def _is_within(self, limit: Score | int) -> Bool[Tensor, "b p"]:
        limits = limit[:, None] if isinstance(limit, torch.Tensor) else limit
        return self.valid & (self.ranks <= limits)


def expected_recall(counts: Counts, size: int, k: int) -> Expected:
    """The probability that at least one of k images drawn without replacement is a positive."""
    draws = min(k, size)
    negatives = size - counts
    can_miss = negatives >= draws
    rest = np.where(can_miss, negatives - draws, 0)
    log_missed = (
        gammaln(negatives + 1) - gammaln(rest + 1) - gammaln(size + 1) + gammaln(size - draws + 1)
    )
    return np.asarray(1 - np.exp(np.where(can_miss, log_missed, -np.inf)))


def expected_precision(counts: Counts, size: int, k: int) -> Expected:
    """The expected share of positives among the k nearest."""
    return np.asarray(counts / size * min(k, size) / k)


def expected_r_precision(counts: Counts, size: int) -> Expected:
    """The expected share of positives among the R nearest."""
    return np.asarray(counts / size)


def expected_map(counts: Counts, size: int) -> Expected:
    """The expected mean average precision."""
    return _precision_sum(counts, size, np.full_like(counts, size)) / counts


def expected_map_at_r(counts: Counts, size: int) -> Expected:
    """The expected mAP@R."""
    return _precision_sum(counts, size, counts) / counts


def expected_map_at_1000(counts: Counts, size: int) -> Expected:
    """The expected mAP@1000."""
    limit = np.full_like(counts, min(1000, size))
    return _precision_sum(counts, size, limit) / np.minimum(counts, 1000)


def expected_mrr(counts: Counts, size: int) -> Expected:
    """The expected reciprocal rank of the first positive."""
    means = []
    for positives in counts.tolist():
        ranks = np.arange(1, size - positives + 2)
        log_probability = (
            np.log(positives / (size - ranks + 1))
            + gammaln(size - positives + 1)
            - gammaln(size - positives - ranks + 2)
            - gammaln(size + 1)
            + gammaln(size - ranks + 2)
        )
        means.append(float((np.exp(log_probability) / ranks).sum()))
    return np.array(means)


def _precision_sum(counts: Counts, size: int, limit: Counts) -> Expected:
    """Expected sum of the precisions at the positives up to rank `limit`.

    Rank r is one of R positives among N with probability R/N, each before it with (R-1)/(N-1).
    """
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, size + 1))))
    before = (counts - 1) / max(size - 1, 1)
    return np.asarray(counts / size * (harmonic[limit] * (1 - before) + limit * before))


RETRIEVAL = MetricFamily("retrieval")


@RETRIEVAL.define("recall@k", "Recall@k", expected=expected_recall)
def recall(positives: RankedPositives, k: int) -> Score:
    """1 if a positive is among the k nearest, else 0."""
    return (positives.first <= k).double()


@RETRIEVAL.define("precision@k", "Precision@k", expected=expected_precision)
def precision(positives: RankedPositives, k: int) -> Score:
    """The share of positives among the k nearest."""
    return positives.count_within(k) / k


@RETRIEVAL.define("r_precision", "R-precision", expected=expected_r_precision)
def r_precision(positives: RankedPositives) -> Score:
    """The share of positives among the R nearest."""
    return positives.count_within(positives.counts) / positives.counts


@RETRIEVAL.define("map@r", "mAP@R", expected=expected_map_at_r)
def map_at_r(positives: RankedPositives) -> Score:
    """Average precision with ranks beyond R counted as 0 (Musgrave et al., ECCV 2020)."""
    return positives.precision_sum(positives.counts) / positives.counts


@RETRIEVAL.define("map@1000", "mAP@1000", expected=expected_map_at_1000)
def map_at_1000(positives: RankedPositives) -> Score:
    """The precisions at ranks up to 1000, summed and divided by min(R, 1000)."""
    return positives.precision_sum(1000) / positives.counts.clamp(max=1000)


@RETRIEVAL.define("map", "mAP", expected=expected_map)
def average_precision(positives: RankedPositives) -> Score:
    """The mean of the precisions at all positives."""
    return positives.precision.sum(1) / positives.counts


@RETRIEVAL.define("mrr", "MRR", expected=expected_mrr)
def reciprocal_rank(positives: RankedPositives) -> Score:
    """The reciprocal rank of the nearest positive."""
    return 1 / positives.first


@RETRIEVAL.define("recall@k_published", "Recall@k (as published)", published=True)
def published_recall(positives: RankedPositives, k: int) -> Score:
    """Recall@k with queries without a positive counted as failures."""
    return recall(positives, k)


@RETRIEVAL.define("map@c_published", "mAP@C (as published)", published=True)
def published_map_at_c(positives: RankedPositives) -> Score:
    """Precisions up to rank C, the class size with the query, summed and divided by C."""
    return positives.precision_sum(positives.counts + 1) / (positives.counts + 1)


@RETRIEVAL.define("map@1000_published", "mAP@1000 (as published)", published=True)
def published_map_at_1000(positives: RankedPositives) -> Score:
    """Precisions up to rank 1000, summed and divided by C."""
    return positives.precision_sum(1000) / (positives.counts + 1)


@RETRIEVAL.define("map_published", "mAP (as published)", published=True)
def published_average_precision(positives: RankedPositives) -> Score:
    """Precisions at all positives, summed and divided by C."""
    return positives.precision.sum(1) / (positives.counts + 1)


JUDGED = MetricFamily("retrieval")  # only under a protocol


@JUDGED.define("ndcg@k", "nDCG@k")
def ndcg_at_k(positives: RankedPositives, k: float) -> Score:
    """Relevance / log₂(1 + rank) up to rank k, relative to its largest possible sum."""
    ideal = positives.gains.sort(1, descending=True).values
    ranks = torch.arange(1, ideal.shape[1] + 1, device=ideal.device, dtype=torch.float64)
    gain = (positives.gains * (positives.ranks <= k) / torch.log2(1 + positives.ranks)).sum(1)
    return gain / (ideal * (ranks <= k) / torch.log2(1 + ranks)).sum(1)


@JUDGED.define("ndcg", "nDCG")
def ndcg(positives: RankedPositives) -> Score:
    """nDCG over all ranks, with linear gains as in trec_eval (Järvelin and Kekäläinen, 2002)."""
    return ndcg_at_k(positives, torch.inf)


@JUDGED.define("map@k", "mAP@k")
def map_at_k(positives: RankedPositives, k: int) -> Score:
    """The precisions at ranks up to k, summed and divided by min(R, k)."""
    return positives.precision_sum(k) / positives.counts.clamp(max=k)


@JUDGED.define("map_trapezoid", "mAP (area)")
def map_trapezoid(positives: RankedPositives) -> Score:
    """The area under precision and recall by trapezoids, as in the code of Market-1501."""
    slots = torch.arange(positives.ranks.shape[1], device=positives.ranks.device)
    before = torch.where(positives.ranks > 1, slots / (positives.ranks - 1), 1.0)
    return ((before + positives.precision) / 2 * positives.valid).sum(1) / positives.counts


@JUDGED.define("minp", "mINP")
def inverse_negative_penalty(positives: RankedPositives) -> Score:
    """The number of matches divided by the rank of the last (Ye et al., TPAMI 2021, eq. 3)."""
    last = positives.ranks.gather(1, positives.counts.long()[:, None] - 1)[:, 0]
    return positives.counts / last


def retrieval_metrics(
    vectors: Array,
    labels: Array,
    *,
    ks: Iterable[int] = (1, 2, 4, 8),
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    distance: str = "cosine",
    seed: int = 0,
    relevance: Mapping[Any, Any] | Array | None = None,
    gallery_relevance: Array | None = None,
    ids: Array | None = None,
    gallery_ids: Array | None = None,
    average: str = "micro",
    per_query: bool = False,
) -> dict[str, Any]:
    """Compute every retrieval metric of an embedding.

    Each image is a query among all others or, if a gallery is given, in the gallery. Queries
    without a positive are excluded: "queries" counts the scored ones, "singletons" the excluded
    ones. The docstrings of `oodml.evaluate.retrieval` define the metrics. Names with "_published"
    are the variants printed by the code of arXiv 2107.09562, computed only without a gallery:
    excluded queries count as failures, so perfect embeddings do not score 1.

    Args:
        vectors: [n d]. float64 is compared in float64, everything else in float32, or in
            float64 where float32 does not resolve the distances of near neighbors.
        labels, gallery_labels: [n] and [m] integers or strings.
        ks: the cut-offs of recall and precision.
        gallery: [m d] the images to search instead; may contain further classes.
        distance: "cosine", "euclidean" on the vectors as given, or "poincare", the hyperbolic
            distance of points of the unit ball.
        seed: of the random order of images at equal distance.
        relevance, gallery_relevance: what makes an image a positive if not its label: a mapping
            from labels to groups (class to superclass), or arrays [n] and [m] of groups.
        ids, gallery_ids: [n] and [m] the image of each row. A gallery row with a query's id and,
            up to rounding, its vector is the query's own image and is not ranked.
        average: over queries ("micro"), or over the means of each label ("macro").
        per_query: return arrays [n] instead of averages, with NaN for excluded queries, and R
            as "positives" and the number of ranked images as "gallery_size".

    Raises:
        OodmlError: if vectors are not finite or, with "cosine", zero; if shapes do not match; if
            no query has a positive.
    """
    cutoffs = check_cutoffs(ks)
    _check_average(average)
    check_seed(seed)
    protocol = gallery_protocol(
        vectors, labels, distance, relevance, gallery=gallery, gallery_labels=gallery_labels,
        gallery_relevance=gallery_relevance, ids=ids, gallery_ids=gallery_ids,
    )  # fmt: skip
    generator = torch.Generator(protocol.queries.device).manual_seed(seed)
    values = query_metrics(protocol, cutoffs, distance, generator)
    return values if per_query else average_metrics(values, labels, average)


def metrics_per_class(values: PerQuery, labels: Array) -> tuple[NDArray[Any], PerQuery]:
    """The sorted labels, and the mean of each metric over the queries of each, NaN for none."""
    names, (classes,) = encode_labels(as_labels(labels, len(values["positives"])))
    return names, {name: _class_means(column, classes) for name, column in values.items()}


def average_metrics(values: PerQuery, labels: Array, average: str = "micro") -> dict[str, float]:
    """Average the values of queries to the metrics that `retrieval_metrics` returns."""
    _check_average(average)
    scored = ~np.isnan(values["positives"])
    if not scored.any():
        problem = f"none of the {len(scored)} queries has a positive in the gallery"
        raise OodmlError(problem, location="labels")
    _, (classes,) = encode_labels(as_labels(labels, len(scored)))
    means = {}
    for name, column in values.items():
        if name.endswith(PUBLISHED):
            means[name] = float(column.mean())
        elif average == "micro":
            means[name] = float(column[scored].mean())
        else:
            means[name] = float(np.nanmean(_class_means(column, classes)))
    means = {name: check_bounds(name, x) for name, x in means.items() if name not in COUNTS}
    return means | {"queries": float(scored.sum()), "singletons": float((~scored).sum())}


def check_cutoffs(ks: Iterable[int]) -> tuple[int, ...]:
    """The distinct cut-offs in order; refuses what is not a whole number from 1."""
    cutoffs = tuple(dict.fromkeys(ks))
    for k in cutoffs:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            problem = f"{k!r} is not a whole number from 1"
            raise error_at("ks", problem, k, ("whole numbers from 1",))
    return tuple(int(k) for k in cutoffs)


def _check_average(average: str) -> None:
    if average not in ("micro", "macro"):
        raise unknown("average", average, ("micro", "macro"))


def query_metrics(
    protocol: RetrievalProtocol,
    ks: tuple[int, ...],
    distance: str,
    generator: "torch.Generator",
    more: MoreColumns | None = None,
) -> PerQuery:
    """Compute every metric of every query, "positives", and "gallery_size"."""
    functions = RETRIEVAL.functions(ks, published=protocol.gallery is None)
    blocks = positive_ranks(protocol, distance=distance, generator=generator, more=more)
    values = score_blocks(blocks, functions, len(protocol.queries))
    n_more = 0 if more is None else more.size
    values["gallery_size"] = (protocol.gallery_sizes + n_more).astype(np.float64)
    return values


def score_blocks(
    blocks: Iterable[RankBlock], functions: Mapping[str, Callable[..., Score]], n: int
) -> PerQuery:
    """The metrics and "positives" of n queries, NaN (as published: 0) for queries in no block."""
    functions = {**functions, "positives": lambda positives: positives.counts}
    table = torch.full((n, len(functions)), torch.nan, dtype=torch.float64)
    for block in blocks:
        positives = RankedPositives(block)
        columns = [function(positives) for function in functions.values()]
        table[block.rows.cpu()] = torch.stack(columns, 1).cpu()
    values = {name: table[:, i].numpy() for i, name in enumerate(functions)}
    for name, column in values.items():
        if name.endswith(PUBLISHED):
            np.nan_to_num(column, copy=False)
    return values


def _class_means(column: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    known = ~np.isnan(column)
    totals = np.bincount(classes, np.where(known, column, 0.0))
    counts = np.bincount(classes, known)
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def chance_metrics(
    positives: Float[np.ndarray, " n"],
    gallery_size: int | Float[np.ndarray, " _"],
    *,
    ks: Iterable[int] = (1, 2, 4, 8),
) -> dict[str, float]:
    """The expected value of each retrieval metric for a random ranking, averaged over queries.

    Args:
        positives: [n] the number of positives of each query; queries with 0 or NaN are excluded.
        gallery_size: the number of images that a query is compared with, or [n] one per query.
    """
    scored = np.nan_to_num(positives) > 0
    if not scored.any():
        raise OodmlError("chance level: no query has a positive", given=len(positives))
    counts = positives[scored].astype(np.int64)
    sizes = np.broadcast_to(gallery_size, positives.shape)[scored].astype(np.int64)
    functions, totals = RETRIEVAL.functions(tuple(ks), expected=True), dict[str, float]()
    for size in np.unique(sizes).tolist():
        distinct, frequencies = np.unique(counts[sizes == size], return_counts=True)
        for name, expected in functions.items():
            total = float((expected(distinct, size) * frequencies).sum())
            totals[name] = totals.get(name, 0.0) + total
    return {name: total / len(counts) for name, total in totals.items()}
