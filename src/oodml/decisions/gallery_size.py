"""Recall against the size of the gallery: exact up to the size that is there, extrapolated beyond.

A query fails at k if at least k distractors are closer than its nearest positive. Counting them in
the whole pool gives the expected recall for every smaller gallery, without drawing any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.evaluate.compare import class_draws
from oodml.evaluate.inputs import Array, check_seed, encode_labels
from oodml.evaluate.query_lists import split_lists
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.vectors import VectorSet

LEVEL = 0.8  # the confidence level of extrapolations
N_SIZES = 12  # sizes that the law is fitted to
REACH = 30  # the law is fitted to galleries of at least 1/30 of the pool


@dataclass(frozen=True)
class Growth:
    """Counts from which recall follows for any gallery size.

    Attributes:
        within: [q] the rank of the nearest positive among the gallery without distractors.
        closer: [q] the number of distractors that are closer than the nearest positive.
        pool: the number of distractors.
        base: the number of gallery images that are always there.
        classes: [q] the class of each query, as integers.
    """

    within: Float[np.ndarray, " q"]
    closer: Float[np.ndarray, " q"]
    pool: int
    base: int
    classes: NDArray[np.int64]


def count_distractors(
    queries: VectorSet,
    distractors: VectorSet,
    gallery: VectorSet | None = None,
    distance: str = "cosine",
    seed: int = 0,
) -> Growth:
    """Count the distractors that are closer to each query than its nearest positive.

    Args:
        distractors: images of other classes than the queries'.
        gallery: the images that are always searched; by default the queries' own gallery or, if
            they have no lists, the other queries.

    Raises:
        OodmlError: if a distractor has the class of a query.
    """
    check_seed(seed)
    if gallery is None:
        queries, gallery = split_lists(queries)
    shared = set(distractors.class_names) & set(queries.class_names)
    if shared:
        raise OodmlError(
            f"distractors have {len(shared)} classes of the queries, such as {min(shared)!r}",
            location="--distractors",
            given=min(shared),
        )
    every = queries if gallery is None else gallery
    ids, gallery_ids = _ids(queries, gallery)
    ranks = []
    for vectors, classes, names in (
        (every.vectors, every.classes, gallery_ids),
        (
            np.concatenate([every.vectors, distractors.vectors]),
            np.concatenate([every.classes, distractors.classes]),
            np.concatenate([gallery_ids, [f"d{row}" for row in range(len(distractors))]]),
        ),
    ):
        values = retrieval_metrics(
            queries.vectors, queries.classes, ks=(), distance=distance, seed=seed, per_query=True,
            gallery=vectors, gallery_labels=classes, ids=ids, gallery_ids=names,
        )  # fmt: skip
        ranks.append(np.round(1 / values["mrr"]))
    scored = ~np.isnan(ranks[0])
    _, (labels,) = encode_labels(queries.classes)
    closer = np.maximum(ranks[1] - ranks[0], 0)  # ties are ranked at random
    base = len(every) - (gallery is None)
    return Growth(ranks[0][scored], closer[scored], len(distractors), base, labels[scored])


def _ids(queries: VectorSet, gallery: VectorSet | None) -> tuple[Array, Array]:
    """Names by which a query's own image is found in the gallery."""
    if gallery is None:
        rows = np.arange(len(queries)).astype(np.str_)
        return rows, rows
    if queries.has_ids and gallery.has_ids:
        return np.char.add("g", queries.ids), np.char.add("g", gallery.ids)
    return np.full(len(queries), "q"), np.arange(len(gallery)).astype(np.str_)


def recall_at_size(growth: Growth, size: int, k: int = 1) -> Float[np.ndarray, " q"]:
    """The probability that each query succeeds with `size` distractors drawn from the pool.

    Args:
        size: at most the size of the pool.

    Returns:
        [q] the hypergeometric probability that fewer than k-(rank-1) closer distractors are drawn.
    """
    from scipy.stats import hypergeom

    allowed = k - growth.within
    return np.where(
        allowed < 0, 0.0, hypergeom.cdf(allowed, growth.pool, growth.closer.astype(int), size)
    )


def extrapolate(
    growth: Growth, sizes: Sequence[int], k: int = 1, seed: int = 0, resamples: int = 400
) -> pd.DataFrame:
    """Recall@k by gallery size, with intervals from resampling classes.

    Within the pool, recall is exact and has a 95% interval. Beyond it, the logit of recall is
    continued linearly in the logarithm of the size. The 80% interval of an extrapolation combines
    resampling of classes and an error like that of predicting the larger half of the fitted sizes
    from the smaller half.

    Args:
        sizes: sizes of the gallery including the images that are always there.

    Returns:
        One row per size: `size`, `recall`, `low`, `high`, `extrapolated`.
    """
    inside = [size for size in sizes if size <= growth.pool + growth.base]
    fitted = fit_sizes(growth.pool)
    exact = np.stack(
        [recall_at_size(growth, max(0, size - growth.base), k) for size in inside]
        + [recall_at_size(growth, int(size), k) for size in fitted]
    )
    n_classes = int(growth.classes.max()) + 1
    sums = np.stack([np.bincount(growth.classes, row, n_classes) for row in exact])
    counts = np.bincount(growth.classes, minlength=n_classes)
    draws = np.concatenate([*class_draws(n_classes, resamples, seed)])
    weights = np.concatenate([np.ones((1, n_classes)), draws[draws @ counts > 0]])
    curves = (weights @ sums.T) / (weights @ counts)[:, None]
    target = np.array([size for size in sizes if size > growth.pool + growth.base])
    beyond = _continue(curves[:, len(inside) :], fitted + growth.base, target, seed)
    rows = []
    for size in sizes:
        extrapolated = size > growth.pool + growth.base
        values = beyond[:, [*target].index(size)] if extrapolated else curves[:, inside.index(size)]
        level = LEVEL if extrapolated else 0.95
        low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
        rows.append((size, values[0], low, high, extrapolated))
    return pd.DataFrame(rows, columns=["size", "recall", "low", "high", "extrapolated"])


def fit_sizes(pool: int) -> NDArray[np.int64]:
    """Numbers of distractors, evenly spaced on a logarithmic scale, that the law is fitted to."""
    return np.unique(np.geomspace(max(1, pool / REACH), pool, N_SIZES).astype(int))


def _continue(
    curves: Float[np.ndarray, "r s"], sizes: NDArray[np.int64], target: NDArray[np.int64], seed: int
) -> Float[np.ndarray, "r t"]:
    """Each curve at the target sizes, with a random error like that for held-out sizes."""
    if not len(target):
        return np.empty((len(curves), 0))
    half = len(sizes) // 2
    logits = _logit(curves)
    known = _law(logits[:, :half], sizes[:half], sizes[half:])
    gap = np.log(sizes[half:] / sizes[half - 1])
    miss = float(np.median(np.abs(known - logits[:, half:]) / gap))
    ahead = np.log(target / sizes[-1])
    noise = np.random.default_rng(seed).normal(size=(len(curves), 1)) * miss * ahead
    noise[0] = 0
    return np.asarray(1 / (1 + np.exp(-_law(logits, sizes, target) - noise)))


def _law(
    logits: Float[np.ndarray, "r s"], sizes: NDArray[np.int64], target: NDArray[np.int64]
) -> Float[np.ndarray, "r t"]:
    """The logits continued linearly in the logarithm of the size, from the last ones."""
    x, at = np.log(sizes), np.log(target)
    middle = x.mean()
    slope = (logits * (x - middle)).sum(1) / ((x - middle) ** 2).sum()
    return np.asarray(logits[:, -1:] + slope[:, None] * (at - x[-1]))


def _logit(values: Float[np.ndarray, "r s"]) -> Float[np.ndarray, "r s"]:
    clipped = np.clip(values, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped / (1 - clipped)))
