"""Distance-weighted mining (Wu et al. 2017, arXiv 1706.07567)."""

import torch
from jaxtyping import Float
from torch import Tensor

from oodml.miners._base import PairMiner, Pairs, Partners, draw, draw_from, unit_distances
from oodml.shapes import Square, Uniform, Vectors


def log_inverse_density(distance: Float[Tensor, "*shape"], dim: int) -> Float[Tensor, "*shape"]:
    """Log of the inverse density, not normalized, of distances on the unit sphere in `dim` axes."""
    below_antipodal = (1 - distance.square() / 4).clamp(min=1e-6)
    return (2 - dim) * distance.log() - (dim - 3) / 2 * below_antipodal.log()


def negative_probabilities(embeddings: Vectors, allowed: Pairs, lowest: float = 0.5) -> Square:
    """Probability that each row is drawn as the negative of each anchor; 0 without an allowed row.

    The weights are the inverse density of distances, clamped to at least `lowest`, on the unit
    sphere (Wu et al. 2017, eq. 4).
    """
    between = unit_distances(embeddings).clamp(min=lowest)
    log_weights = log_inverse_density(between, embeddings.shape[1])
    return log_weights.masked_fill(~allowed, -torch.inf).softmax(1).nan_to_num(0.0)


class Miner(PairMiner):
    """One triplet per anchor: a random positive and a distance-weighted negative.

    Distances are clamped to at least `lowest`, to draw not only the nearest.
    """

    def __init__(self, lowest: float = 0.5) -> None:
        self.lowest = lowest

    def partners(self, rows: Vectors, same: Pairs, other: Pairs, uniform: Uniform) -> Partners:
        weights = negative_probabilities(rows, other, self.lowest)
        return draw_from(same, uniform[0]), draw(weights, uniform[1])
