"""Triplets across three classes, both partners drawn by distance (Milbich et al. 2020)."""

from jaxtyping import Float, Int
from torch import Tensor

from oodml.miners import shared_neg_distance
from oodml.miners._base import draw, negative_mask
from oodml.miners.distance import negative_probabilities
from oodml.shapes import Labels, Vectors


class Miner(shared_neg_distance.Miner):
    """One triplet per anchor: distance-weighted rows of a second and a third class.

    Args:
        lowest: distances are clamped to at least this value.
    """

    def choose_positive(
        self, embeddings: Vectors, labels: Labels, uniform: Float[Tensor, " n"]
    ) -> Int[Tensor, " n"]:
        """One distance-weighted row of another class for each anchor."""
        return draw(negative_probabilities(embeddings, negative_mask(labels), self.lowest), uniform)
