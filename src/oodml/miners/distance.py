"""Distance-weighted mining (Wu et al. 2017, arXiv 1706.07567)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    draw,
    draw_from,
    negatives_of,
    positives_of,
    triplets_of_each,
    unit_distances,
)


def log_inverse_density(distance: Float[Tensor, "*shape"], dim: int) -> Float[Tensor, "*shape"]:
    """Log of 1 / density of the distance of two uniform points on the unit sphere, unscaled."""
    below_antipodal = (1 - distance.square() / 4).clamp(min=1e-6)
    return (2 - dim) * distance.log() - (dim - 3) / 2 * below_antipodal.log()


def negative_probabilities(
    embeddings: Float[Tensor, "n d"],
    allowed: Bool[Tensor, "n n"],
    lowest: float = 0.5,
) -> Float[Tensor, "n n"]:
    """Probability of each allowed row as an anchor's negative; rows of zeros where none is.

    Weights are inverse to the density of the distance on the unit sphere, onto which the
    embeddings are scaled; distances below `lowest` count as `lowest`.
    """
    between = unit_distances(embeddings).clamp(min=lowest)
    log_weights = log_inverse_density(between, embeddings.shape[1])
    return log_weights.masked_fill(~allowed, -torch.inf).softmax(1).nan_to_num(0.0)


class Miner(BaseMiner):
    """One triplet an anchor: a random positive, a distance-weighted negative.

    lowest: distances below it count as it, else the nearest negatives alone would be drawn.
    """

    def __init__(self, lowest: float = 0.5) -> None:
        self.lowest = lowest

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positives_of(labels), negatives_of(labels)
        weights = negative_probabilities(embeddings, negatives, self.lowest)
        triplets = triplets_of_each(draw_from(positives, uniform[0]), draw(weights, uniform[1]))
        return triplets, positives.any(1) & negatives.any(1)
