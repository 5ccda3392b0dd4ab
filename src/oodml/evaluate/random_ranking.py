"""Expected retrieval metrics of a random ranking, in closed form.

Every function takes `counts`, the number of positives of each query (at least 1), and `size`, the
number of gallery images that the query is compared with.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Counts = NDArray[np.int64]
Expected = NDArray[np.float64]


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
