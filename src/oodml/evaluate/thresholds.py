"""Threshold consistency: does one threshold on the similarity serve all classes alike?"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.errors import OodmlError

BINS = 1024
BLOCK = 512


def inconsistency(
    unit: Float[Tensor, "n d"],
    classes: Int[Tensor, " n"],
    false_accept_rates: tuple[float, float] = (0.01, 0.1),
) -> float:
    """OPIS, the operating-point inconsistency score (Zhang et al., ICLR 2024); 0 is the best.

    Two images are accepted as of one class if their cosine reaches a threshold. A class's
    utility at a threshold is the harmonic mean of its share of its own pairs accepted and of its
    share of pairs with other classes refused. The score is the variance of utility over
    classes, averaged over the thresholds at which the false-accept rate of all pairs lies
    between the two given. Thresholds are cosines, in 1024 steps of 1/512, where the paper's are
    distances, so values compare only with each other. NaN where no two classes have pairs of both
    kinds. classes: integers from 0.
    """
    low, high = false_accept_rates
    if not 0 < low < high < 1:
        raise OodmlError(
            f"false_accept_rates: {false_accept_rates}; allowed: two, 0 < low < high < 1"
        )
    own, other = _histograms(unit, classes)
    served = (own.sum(1) > 0) & (other.sum(1) > 0)
    if served.sum() < 2:
        return float("nan")
    false_accepts = _accepted(other.sum(0, keepdim=True))[0]
    inside = (false_accepts >= low) & (false_accepts <= high)
    if not inside.any():  # all cosines in so few steps that none has such a rate: the nearest
        inside[(false_accepts - (low * high) ** 0.5).abs().argmin()] = True
    found, kept_out = _accepted(own[served]), 1 - _accepted(other[served])
    utility = 2 * found * kept_out / (found + kept_out).clamp(min=1e-12)
    return float(utility[:, inside].var(0, correction=0).mean())


def _accepted(counts: Int[Tensor, "c bins"]) -> Float[Tensor, "c bins"]:
    """The share of a row's pairs that reach the lower end of each step."""
    reaching = counts.flip(1).cumsum(1).flip(1).double()
    return reaching / reaching[:, :1]


def _histograms(
    unit: Float[Tensor, "n d"], classes: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "c bins"], Int[Tensor, "c bins"]]:
    """Per class, how many pairs with the own and with other classes fall into each step."""
    n_classes = int(classes.max()) + 1
    shape = (n_classes, BINS)
    everything = torch.zeros(n_classes * BINS, dtype=torch.int64, device=unit.device)
    own = torch.zeros_like(everything)
    for begin in range(0, len(unit), BLOCK):
        rows = slice(begin, begin + BLOCK)
        steps = (unit[rows] @ unit.T).add_(1).mul_(BINS / 2).long().clamp_(0, BINS - 1)
        steps += classes[rows, None] * BINS
        itself = torch.bincount(steps.diagonal(begin), minlength=len(own))
        everything += torch.bincount(steps.flatten(), minlength=len(own)) - itself
        own += torch.bincount(steps[classes[rows, None] == classes], minlength=len(own)) - itself
    return own.view(shape), (everything - own).view(shape)
