"""Triplets across three classes, to learn features shared by classes (Milbich et al. 2020)."""

from oodml.miners._base import BaseMiner, Pairs, draw, draw_from, negative_mask, one_triplet_per_row
from oodml.miners.distance import negative_probabilities
from oodml.shapes import Labels, MaskedTriplets, Rows, Uniform, Vectors


class Miner(BaseMiner):
    """One triplet per anchor: a random row of another class and a distance-weighted row of a third.

    Distances are clamped to at least `lowest`.
    """

    relation = "across"

    def __init__(self, lowest: float = 0.5) -> None:
        self.lowest = lowest

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        unlike = negative_mask(labels)
        positive = self.second(embeddings, unlike, uniform)
        third = unlike & (labels != labels[positive][:, None])
        weights = negative_probabilities(embeddings, third, self.lowest)
        return one_triplet_per_row(positive, draw(weights, uniform[1])), third.any(1)

    def second(self, rows: Vectors, unlike: Pairs, uniform: Uniform) -> Rows:
        """One row of another class for each anchor."""
        return draw_from(unlike, uniform[0])
