"""Negatives by a chosen distribution of their distance (Roth et al. 2020, arXiv 2003.11113)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.errors import unknown
from oodml.miners._base import (
    BaseMiner,
    draw,
    draw_from,
    negatives_of,
    positives_of,
    triplets_of_each,
    unit_distances,
)

RANGES = {
    "uniform": (0.0, 2.0),
    "hard": (0.0, 0.5),
    "semihard": (0.3, 0.7),
    "very_hard": (0.0, 0.3),
}


def bin_weights(
    between: Float[Tensor, "n m"],
    allowed: Bool[Tensor, "n m"],
    low: float,
    high: float,
    n_bins: int,
) -> Float[Tensor, "n m"]:
    """Weights that are equal for all bins of [low, high] with an allowed row, and within one."""
    inside = allowed & (between >= low) & (between <= high)
    position = ((between - low) / (high - low) * n_bins).long().clamp(0, n_bins - 1)
    counts = between.new_zeros(len(between), n_bins)
    counts = counts.scatter_add(1, position, inside.to(between.dtype))
    return inside / counts.gather(1, position).clamp(min=1)


class Miner(BaseMiner):
    """One triplet an anchor: a random positive, a negative from a random bin of distances.

    mode: the distances on the unit sphere that have bins: "uniform" all, "hard" up to .5,
    "semihard" .3 to .7, "very_hard" up to .3; without a negative there, any is taken.
    n_bins: bins of equal width.
    """

    def __init__(
        self,
        mode: str = "uniform",
        n_bins: int = 30,
    ) -> None:
        if mode not in RANGES:
            raise unknown("mode", mode, RANGES, "miner parametric")
        self.range = RANGES[mode]
        self.n_bins = n_bins

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positives_of(labels), negatives_of(labels)
        between = unit_distances(embeddings)
        weights = bin_weights(between, negatives, *self.range, self.n_bins)
        fallback = negatives.to(weights.dtype)
        weights = torch.where(weights.any(1, keepdim=True), weights, fallback)
        triplets = triplets_of_each(draw_from(positives, uniform[0]), draw(weights, uniform[1]))
        return triplets, positives.any(1) & negatives.any(1)
