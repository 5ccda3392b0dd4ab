"""Any positive and any negative of every anchor."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import BaseMiner, draw_from, negatives_of, positives_of, triplets_of_each


class Miner(BaseMiner):
    """One triplet an anchor: a random other row of its class, a random row of another."""

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positives_of(labels), negatives_of(labels)
        triplets = triplets_of_each(
            draw_from(positives, uniform[0]), draw_from(negatives, uniform[1])
        )
        return triplets, positives.any(1) & negatives.any(1)
