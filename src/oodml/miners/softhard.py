"""Soft-hard mining: pairs harder than the easiest of the other kind (Roth et al. 2020)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    distances,
    draw_from,
    negatives_of,
    positives_of,
    prefer,
    triplets_of_each,
)


def softhard_pairs(
    embeddings: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
) -> tuple[Bool[Tensor, "n n"], Bool[Tensor, "n n"]]:
    """Positives farther than an anchor's nearest negative; negatives nearer than its farthest
    positive."""
    between = distances(embeddings)
    positives, negatives = positives_of(labels), negatives_of(labels)
    nearest = between.masked_fill(~negatives, torch.inf).amin(1, keepdim=True)
    farthest = between.masked_fill(~positives, -torch.inf).amax(1, keepdim=True)
    return positives & (between > nearest), negatives & (between < farthest)


class Miner(BaseMiner):
    """One triplet an anchor: a random soft-hard positive, a random soft-hard negative.

    Where an anchor has none of either kind, any positive or negative is taken.
    """

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positives_of(labels), negatives_of(labels)
        hard_positives, hard_negatives = softhard_pairs(embeddings, labels)
        triplets = triplets_of_each(
            draw_from(prefer(hard_positives, positives), uniform[0]),
            draw_from(prefer(hard_negatives, negatives), uniform[1]),
        )
        return triplets, positives.any(1) & negatives.any(1)
