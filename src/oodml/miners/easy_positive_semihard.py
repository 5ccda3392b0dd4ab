"""Easy positive, semi-hard negative (Xuan et al. 2020, arXiv 1904.04370)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    distances,
    negatives_of,
    positives_of,
    triplets_of_each,
)


class Miner(BaseMiner):
    """One triplet an anchor: the nearest positive, and the nearest negative beyond it.

    An anchor whose negatives are all nearer than its positive gives none.
    """

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        between = distances(embeddings)
        positives = positives_of(labels)
        to_positive, positive = between.masked_fill(~positives, torch.inf).min(1)
        beyond = negatives_of(labels) & (between > to_positive[:, None])
        negative = between.masked_fill(~beyond, torch.inf).argmin(1)
        return triplets_of_each(positive, negative), positives.any(1) & beyond.any(1)
