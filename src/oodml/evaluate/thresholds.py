"""Threshold consistency: whether one similarity threshold serves all classes equally well."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.errors import error_at

BINS = 1024
BLOCK = 512


def operating_point_inconsistency(
    unit: Float[Tensor, "n d"],
    classes: Int[Tensor, " n"],
    false_accept_rates: tuple[float, float] = (0.01, 0.1),
) -> float:
    """OPIS, the operating-point inconsistency score (Zhang et al., ICLR 2024); 0 is the best.

    Two images are accepted as one class if their cosine reaches a threshold. The utility of a
    class at a threshold is the harmonic mean of the share of its own pairs that are accepted and
    the share of its pairs with other classes that are rejected. The score is the variance of
    utility over classes, averaged over the thresholds at which the false-accept rate of all pairs
    is in the given range. Thresholds are cosines in 1024 steps of 1/512. The paper uses distances,
    so values are comparable only with each other.

    Args:
        unit: [n d] unit vectors.
        classes: [n] integers from 0.

    Returns:
        The score; NaN if fewer than two classes have pairs of both kinds.
    """
    low, high = false_accept_rates
    if not 0 < low < high < 1:
        problem = f"{false_accept_rates}; allowed: 0 < low < high < 1"
        raise error_at("false_accept_rates", problem, false_accept_rates)
    own, other = _pair_histograms(unit, classes)
    has_both = (own.sum(1) > 0) & (other.sum(1) > 0)
    if has_both.sum() < 2:
        return float("nan")
    false_accepts = _accepted_share(other.sum(0, keepdim=True))[0]
    inside = (false_accepts >= low) & (false_accepts <= high)
    if not inside.any():  # too few distinct cosines: use the threshold with the nearest rate
        inside[(false_accepts - (low * high) ** 0.5).abs().argmin()] = True
    accepted, rejected = _accepted_share(own[has_both]), 1 - _accepted_share(other[has_both])
    utility = 2 * accepted * rejected / (accepted + rejected).clamp(min=1e-12)
    return float(utility[:, inside].var(0, correction=0).mean())


def _accepted_share(counts: Int[Tensor, "c bins"]) -> Float[Tensor, "c bins"]:
    """The share of a row's pairs that reach the lower end of each bin."""
    reaching = counts.flip(1).cumsum(1).flip(1).double()
    return reaching / reaching[:, :1]


def _pair_histograms(
    unit: Float[Tensor, "n d"], classes: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "c bins"], Int[Tensor, "c bins"]]:
    """For each class, the cosines of its own pairs and of its pairs with others, in bins."""
    n_classes = int(classes.max()) + 1
    shape = (n_classes, BINS)
    total = torch.zeros(n_classes * BINS, dtype=torch.int64, device=unit.device)
    own = torch.zeros_like(total)
    for begin in range(0, len(unit), BLOCK):
        rows = slice(begin, begin + BLOCK)
        bins = (unit[rows] @ unit.T).add_(1).mul_(BINS / 2).long().clamp_(0, BINS - 1)
        bins += classes[rows, None] * BINS
        diagonal = torch.bincount(bins.diagonal(begin), minlength=len(own))
        total += torch.bincount(bins.flatten(), minlength=len(own)) - diagonal
        own += torch.bincount(bins[classes[rows, None] == classes], minlength=len(own)) - diagonal
    return own.view(shape), (total - own).view(shape)
