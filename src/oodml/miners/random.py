"""Random mining."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    draw_from,
    negative_mask,
    one_triplet_per_row,
    positive_mask,
)


class Miner(BaseMiner):
    """One triplet per anchor: a random other row of its class and a random row of another class."""

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        triplets = one_triplet_per_row(
            draw_from(positives, uniform[0]), draw_from(negatives, uniform[1])
        )
        return triplets, positives.any(1) & negatives.any(1)
