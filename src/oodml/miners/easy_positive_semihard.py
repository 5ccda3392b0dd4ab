"""Easy-positive, semi-hard-negative mining (Xuan et al. 2020, arXiv 1904.04370)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    distances,
    negative_mask,
    one_triplet_per_row,
    positive_mask,
)


class Miner(BaseMiner):
    """One triplet per anchor: the nearest positive and the nearest negative farther than it.

    An anchor whose negatives are all nearer than its positive has no triplet.
    """

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        between = distances(embeddings)
        positives = positive_mask(labels)
        to_positive, positive = between.masked_fill(~positives, torch.inf).min(1)
        beyond = negative_mask(labels) & (between > to_positive[:, None])
        negative = between.masked_fill(~beyond, torch.inf).argmin(1)
        return one_triplet_per_row(positive, negative), positives.any(1) & beyond.any(1)
