"""Soft-hard mining (Roth et al. 2020, arXiv 2002.08473)."""

import torch

from oodml.miners._base import PairMiner, Pairs, Partners, distances, draw_from, prefer
from oodml.shapes import Uniform, Vectors


def softhard_pairs(embeddings: Vectors, positives: Pairs, negatives: Pairs) -> tuple[Pairs, Pairs]:
    """Masks of the soft-hard positives and negatives of each anchor.

    Soft-hard positives are farther than the nearest negative; soft-hard negatives are nearer than
    the farthest positive.
    """
    between = distances(embeddings)
    nearest = between.masked_fill(~negatives, torch.inf).amin(1, keepdim=True)
    farthest = between.masked_fill(~positives, -torch.inf).amax(1, keepdim=True)
    return positives & (between > nearest), negatives & (between < farthest)


class Miner(PairMiner):
    """One triplet per anchor: a random soft-hard positive and a random soft-hard negative.

    An anchor without a soft-hard positive (or negative) gets any positive (or negative).
    """

    def partners(self, rows: Vectors, same: Pairs, other: Pairs, uniform: Uniform) -> Partners:
        hard = softhard_pairs(rows, same, other)
        positive = draw_from(prefer(hard[0], same), uniform[0])
        return positive, draw_from(prefer(hard[1], other), uniform[1])
