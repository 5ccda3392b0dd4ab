"""Intervals from the errors on groups of targets that were left out."""

import numpy as np
from jaxtyping import Float

MIN_GROUPS = 5
"""With fewer groups, an interval cannot be calibrated; the largest error is used."""


def weighted_quantile(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], level: float
) -> float:
    """The smallest value with at least a share `level` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    index = min(int(np.searchsorted(share, level - 1e-9)), len(values) - 1)
    return float(values[order[index]])


def half_width(
    errors: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    level: float,
    groups: int,
    noise: Float[np.ndarray, " n"] | float = 0.0,
    own_noise: float = 0.0,
) -> float:
    """The half width that covers a share `level` of left-out targets, for a new target.

    Split conformal prediction with standardized errors (Lei et al., JASA 2018): an error consists
    of that of the model, whose variance is the same for all targets, and of sampling noise, which
    is larger for targets with few queries.

    Args:
        errors: [n] the absolute errors on targets of left-out groups.
        weights: [n] their weights. Groups, not targets, are exchangeable, so every group should
            have the same weight.
        level: the share to cover; with fewer than 5 groups, the largest error is covered.
        groups: the number of groups.
        noise: [n] the variance of the sampling noise of each error.
        own_noise: that of the new target.
    """
    squares = errors**2
    mean = float(np.average(squares, weights=weights))
    model = max(float(np.average(squares - noise, weights=weights)), mean / 4)
    scaled = errors / np.sqrt(np.maximum(model + noise, 1e-12))
    share = level if groups >= MIN_GROUPS else 1.0
    return weighted_quantile(scaled, weights, share) * float(np.sqrt(model + own_noise))
