"""What a random order of the gallery scores: the level at which a metric says nothing."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import gammaln

from oodml.errors import OodmlError


def chance_metrics(
    positives: Float[np.ndarray, " n"], gallery_size: int, *, ks: Iterable[int] = (1, 2, 4, 8)
) -> Mapping[str, float]:
    """The expected value of each retrieval metric under a random order, mean over queries.

    positives: [n] the positives of each query, NaN or 0 where it has none (left out).
    gallery_size: images that the query is compared with, itself not counted.
    """
    asked = positives[np.nan_to_num(positives) > 0]
    if not len(asked):
        raise OodmlError("chance level: no query has a positive")
    counts, times = np.unique(asked.astype(np.int64), return_counts=True)
    share = counts / gallery_size
    levels = {
        f"recall@{k}": 1 - np.exp(_log_missed(counts, gallery_size, min(k, gallery_size)))
        for k in ks
    }
    levels |= {f"precision@{k}": share * min(k, gallery_size) / k for k in ks}
    levels["r_precision"] = share
    levels["map@r"] = _average_precision(counts, gallery_size, counts) / counts
    reach = np.full_like(counts, min(1000, gallery_size))
    levels["map@1000"] = _average_precision(counts, gallery_size, reach) / np.minimum(counts, 1000)
    everything = np.full_like(counts, gallery_size)
    levels["map"] = _average_precision(counts, gallery_size, everything) / counts
    levels["mrr"] = np.array([_reciprocal_rank(int(r), gallery_size) for r in counts])
    return {name: float(np.average(level, weights=times)) for name, level in levels.items()}


def _log_missed(counts: NDArray[np.int64], size: int, k: int) -> NDArray[np.float64]:
    """log probability that none of k images drawn is one of the positives."""
    wrong = size - counts
    possible = wrong >= k
    left = np.where(possible, wrong - k, 0)
    log = gammaln(wrong + 1) - gammaln(left + 1) - gammaln(size + 1) + gammaln(size - k + 1)
    missed: NDArray[np.float64] = np.where(possible, log, -np.inf)
    return missed


def _average_precision(
    counts: NDArray[np.int64], size: int, reach: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Expected sum of the precisions at the positives up to rank `reach`.

    Rank r holds a positive with probability R/N; of the r-1 before it then (R-1)/(N-1) are.
    """
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, size + 1))))
    before = (counts - 1) / max(size - 1, 1)
    value: NDArray[np.float64] = counts / size * (harmonic[reach] * (1 - before) + reach * before)
    return value


def _reciprocal_rank(positives: int, size: int) -> float:
    ranks = np.arange(1, size - positives + 2)
    log = (
        np.log(positives / (size - ranks + 1))
        + gammaln(size - positives + 1)
        - gammaln(size - positives - ranks + 2)
        - gammaln(size + 1)
        + gammaln(size - ranks + 2)
    )
    return float((np.exp(log) / ranks).sum())
