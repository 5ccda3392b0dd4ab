"""Easy-positive mining (Xuan et al. 2020, arXiv 1904.04370)."""

import torch

from oodml.miners._base import (
    BaseMiner,
    distances,
    draw_from,
    negative_mask,
    one_triplet_per_row,
    positive_mask,
)
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(BaseMiner):
    """One triplet per anchor: the nearest positive and a random negative."""

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        nearest = distances(embeddings).masked_fill(~positives, torch.inf).argmin(1)
        triplets = one_triplet_per_row(nearest, draw_from(negatives, uniform[0]))
        return triplets, positives.any(1) & negatives.any(1)
