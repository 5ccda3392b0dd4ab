"""Easy-positive mining (Xuan et al. 2020, arXiv 1904.04370)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    distances,
    draw_from,
    negative_mask,
    one_triplet_per_row,
    positive_mask,
)


class Miner(BaseMiner):
    """One triplet per anchor: the nearest positive and a random negative."""

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        nearest = distances(embeddings).masked_fill(~positives, torch.inf).argmin(1)
        triplets = one_triplet_per_row(nearest, draw_from(negatives, uniform[0]))
        return triplets, positives.any(1) & negatives.any(1)
