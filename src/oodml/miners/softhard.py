"""Soft-hard mining (Roth et al. 2020, arXiv 2002.08473)."""

import torch
from jaxtyping import Bool
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    distances,
    draw_from,
    negative_mask,
    one_triplet_per_row,
    positive_mask,
    prefer,
)
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


def softhard_pairs(
    embeddings: Vectors, labels: Labels
) -> tuple[Bool[Tensor, "n n"], Bool[Tensor, "n n"]]:
    """Masks of the soft-hard positives and negatives of each anchor.

    Soft-hard positives are farther than the nearest negative; soft-hard negatives are nearer than
    the farthest positive.
    """
    between = distances(embeddings)
    positives, negatives = positive_mask(labels), negative_mask(labels)
    nearest = between.masked_fill(~negatives, torch.inf).amin(1, keepdim=True)
    farthest = between.masked_fill(~positives, -torch.inf).amax(1, keepdim=True)
    return positives & (between > nearest), negatives & (between < farthest)


class Miner(BaseMiner):
    """One triplet per anchor: a random soft-hard positive and a random soft-hard negative.

    An anchor without a soft-hard positive (or negative) gets any positive (or negative).
    """

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        hard_positives, hard_negatives = softhard_pairs(embeddings, labels)
        triplets = one_triplet_per_row(
            draw_from(prefer(hard_positives, positives), uniform[0]),
            draw_from(prefer(hard_negatives, negatives), uniform[1]),
        )
        return triplets, positives.any(1) & negatives.any(1)
