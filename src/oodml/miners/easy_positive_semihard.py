"""Easy-positive, semi-hard-negative mining (Xuan et al. 2020, arXiv 1904.04370)."""

import torch

from oodml.miners._base import BaseMiner, distances, negative_mask, positive_mask
from oodml.miners._base import one_triplet_per_row as stack
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(BaseMiner):
    """One triplet per anchor: the nearest positive and the nearest negative farther than it.

    An anchor whose negatives are all nearer than its positive has no triplet.
    """

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        between = distances(embeddings)
        positives = positive_mask(labels)
        to_positive, positive = between.masked_fill(~positives, torch.inf).min(1)
        beyond = negative_mask(labels) & (between > to_positive[:, None])
        negative = between.masked_fill(~beyond, torch.inf).argmin(1)
        return stack(positive, negative), positives.any(1) & beyond.any(1)
