"""Triplets across three classes, both partners by distance (Milbich et al. 2020)."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import BaseMiner, draw, negatives_of, triplets_of_each
from oodml.miners.distance import negative_probabilities


class Miner(BaseMiner):
    """One triplet an anchor: distance-weighted rows of another class and of a third.

    lowest: distances below it count as it.
    """

    relation = "across"

    def __init__(self, lowest: float = 0.5) -> None:
        self.lowest = lowest

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        others = negatives_of(labels)
        positive = draw(negative_probabilities(embeddings, others, self.lowest), uniform[0])
        third = others & (labels != labels[positive][:, None])
        weights = negative_probabilities(embeddings, third, self.lowest)
        return triplets_of_each(positive, draw(weights, uniform[1])), third.any(1)
