"""Negatives from a chosen distribution of distances (Roth et al. 2020, arXiv 2003.11113)."""

import torch

from oodml.errors import unknown
from oodml.miners._base import PairMiner, Pairs, Partners, draw, draw_from, unit_distances
from oodml.shapes import Square, Uniform, Vectors

RANGES = {
    "uniform": (0.0, 2.0),
    "hard": (0.0, 0.5),
    "semihard": (0.3, 0.7),
    "very_hard": (0.0, 0.3),
}


def bin_weights(between: Square, allowed: Pairs, low: float, high: float, n_bins: int) -> Square:
    """Weights that draw each nonempty bin of [low, high] equally often, uniformly within a bin."""
    inside = allowed & (between >= low) & (between <= high)
    position = ((between - low) / (high - low) * n_bins).long().clamp(0, n_bins - 1)
    empty = between.new_zeros(len(between), n_bins)
    counts = empty.scatter_add(1, position, inside.to(between.dtype))
    return inside / counts.gather(1, position).clamp(min=1)


class Miner(PairMiner):
    """One triplet per anchor: a random positive and a negative from a random distance bin.

    Args:
        mode: range of distances on the unit sphere: "uniform" 0 to 2, "hard" 0 to .5, "semihard"
            .3 to .7, "very_hard" 0 to .3. Without a negative there, any negative is drawn.
        n_bins: number of bins of equal width.
    """

    def __init__(self, mode: str = "uniform", n_bins: int = 30) -> None:
        if mode not in RANGES:
            raise unknown("mode", mode, RANGES, "miner parametric")
        self.range, self.n_bins = RANGES[mode], n_bins

    def partners(self, rows: Vectors, same: Pairs, other: Pairs, uniform: Uniform) -> Partners:
        between = unit_distances(rows)
        weights = bin_weights(between, other, *self.range, self.n_bins)
        weights = torch.where(weights.any(1, keepdim=True), weights, other.to(weights.dtype))
        return draw_from(same, uniform[0]), draw(weights, uniform[1])
