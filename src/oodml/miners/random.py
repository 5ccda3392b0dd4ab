"""Random mining."""

from oodml.miners._base import (
    BaseMiner,
    draw_from,
    negative_mask,
    one_triplet_per_row,
    positive_mask,
)
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(BaseMiner):
    """One triplet per anchor: a random other row of its class and a random row of another class."""

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        triplets = one_triplet_per_row(
            draw_from(positives, uniform[0]), draw_from(negatives, uniform[1])
        )
        return triplets, positives.any(1) & negatives.any(1)
