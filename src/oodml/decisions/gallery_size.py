"""Recall against the size of the gallery: exact up to the size that is there, extrapolated beyond.

A query fails at k if at least k distractors are closer than its nearest positive. Counting them in
the whole pool gives the expected recall for every smaller gallery, without drawing any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at
from oodml.evaluate.compare import class_draws
from oodml.evaluate.inputs import check_seed, encode_labels
from oodml.evaluate.query_lists import split_lists
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.vectors import VectorSet

LEVEL = 0.8  # the confidence level of extrapolations
N_SIZES = 12  # sizes that the law is fitted to
REACH = 30  # the law is fitted to galleries of at least 1/30 of the pool


@dataclass(frozen=True)
class Growth:
    """Counts from which recall follows for any gallery size."""

    within: Float[np.ndarray, " q"]  # the rank of the nearest positive without distractors
    closer: Float[np.ndarray, " q"]  # the distractors that are closer than the nearest positive
    pool: int  # the number of distractors
    base: int  # the number of gallery images that are always there
    classes: NDArray[np.int64]  # [q] as integers


def count_distractors(
    queries: VectorSet,
    distractors: VectorSet,
    gallery: VectorSet | None = None,
    distance: str = "cosine",
    seed: int = 0,
) -> Growth:
    """Count the distractors, of other classes, that are closer to each query than its nearest
    positive.

    `gallery` are the images that are always searched; by default the queries' own gallery or, if
    they have no lists, the other queries.
    """
    check_seed(seed)
    if gallery is None:
        queries, gallery = split_lists(queries)
    shared = set(distractors.class_names) & set(queries.class_names)
    if shared:
        problem = f"{len(shared)} classes of the queries, such as {min(shared)!r}"
        raise OodmlError(f"distractors have {problem}", "--distractors", min(shared))
    every, rows = (queries if gallery is None else gallery), np.arange(len(queries))
    # Names by which a query's own image is found in the gallery.
    if gallery is None:
        ids, names = rows.astype(np.str_), rows.astype(np.str_)
    elif queries.has_ids and gallery.has_ids:
        ids, names = np.char.add("g", queries.ids), np.char.add("g", gallery.ids)
    else:
        ids, names = np.full(len(queries), "q"), np.arange(len(gallery)).astype(np.str_)
    extra = np.array([f"d{row}" for row in range(len(distractors))])
    sides = [(every.vectors, every.classes, names)]
    further = (distractors.vectors, distractors.classes, extra)
    sides.append(tuple(map(np.concatenate, zip(sides[0], further, strict=True))))  # type: ignore
    ranks = []
    for vectors, classes, gallery_ids in sides:
        values = retrieval_metrics(
            queries.vectors, queries.classes, ks=(), distance=distance, seed=seed, per_query=True,
            gallery=vectors, gallery_labels=classes, ids=ids, gallery_ids=gallery_ids,
        )  # fmt: skip
        ranks.append(np.round(1 / values["mrr"]))
    scored = ~np.isnan(ranks[0])
    _, (labels,) = encode_labels(queries.classes)
    closer = np.maximum(ranks[1] - ranks[0], 0)  # ties are ranked at random
    base = len(every) - (gallery is None)
    return Growth(ranks[0][scored], closer[scored], len(distractors), base, labels[scored])


def recall_at_size(growth: Growth, size: int, k: int = 1) -> Float[np.ndarray, " q"]:
    """The probability [q] that each query succeeds with `size` distractors drawn from the pool.

    It is the hypergeometric probability that fewer than k-(rank-1) closer ones are drawn.
    """
    from scipy.stats import hypergeom

    allowed = k - growth.within
    drawn = hypergeom.cdf(allowed, growth.pool, growth.closer.astype(int), size)
    return np.where(allowed < 0, 0.0, drawn)


def extrapolate(
    growth: Growth, sizes: Sequence[int], k: int = 1, seed: int = 0, resamples: int = 400
) -> pd.DataFrame:
    """Recall@k by gallery size, with intervals from resampling classes.

    Within the pool, recall is exact and has a 95% interval. Beyond it, the logit of recall is
    continued linearly in the logarithm of the size. The 80% interval of an extrapolation combines
    resampling of classes and an error like that of predicting the larger half of the fitted sizes
    from the smaller half.

    Returns one row per size of the gallery, including the images that are always there: `size`,
    `recall`, `low`, `high`, `extrapolated`.
    """
    for size in sizes:
        if size < growth.base:
            problem = f"{size}; without distractors, the gallery has {growth.base} images"
            raise error_at("sizes", problem, size)
    most = growth.pool + growth.base
    inside, beyond = ([n for n in sizes if (n > most) == larger] for larger in (False, True))
    # The law is fitted to numbers of distractors that are evenly spaced on a logarithmic scale.
    least = max(1, growth.pool / REACH)
    fitted = np.unique(np.geomspace(least, growth.pool, N_SIZES).astype(int))
    counted = [*(size - growth.base for size in inside), *fitted.tolist()]
    exact = np.stack([recall_at_size(growth, size, k) for size in counted])
    n_classes = int(growth.classes.max()) + 1
    sums = np.stack([np.bincount(growth.classes, row, n_classes) for row in exact])
    counts = np.bincount(growth.classes, minlength=n_classes)
    draws = np.concatenate([*class_draws(n_classes, resamples, seed)])
    weights = np.concatenate([np.ones((1, n_classes)), draws[draws @ counts > 0]])
    curves = (weights @ sums.T) / (weights @ counts)[:, None]
    law = _continue(curves[:, len(inside) :], fitted + growth.base, np.array(beyond), seed)
    rows = []
    for size in sizes:
        further = size > most
        values = law[:, beyond.index(size)] if further else curves[:, inside.index(size)]
        level = LEVEL if further else 0.95
        low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
        rows.append((size, values[0], low, high, further))
    return pd.DataFrame(rows, columns=["size", "recall", "low", "high", "extrapolated"])


def _continue(
    curves: Float[np.ndarray, "r s"], sizes: NDArray[np.int64], target: NDArray[Any], seed: int
) -> Float[np.ndarray, "r t"]:
    """Each curve at the target sizes, with a random error like that for held-out sizes."""
    if not len(target):
        return np.empty((len(curves), 0))
    half, clipped = len(sizes) // 2, np.clip(curves, 1e-4, 1 - 1e-4)
    logits = np.log(clipped / (1 - clipped))
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
