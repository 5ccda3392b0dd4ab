"""Triplets within one class, to learn intra-class features (Milbich et al. 2020)."""

import torch

from oodml.miners._base import BaseMiner, draw_from, one_triplet_per_row, positive_mask
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(BaseMiner):
    """One triplet per anchor: two different random rows of its class.

    One of the two may be the anchor itself.
    """

    relation = "within"

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        same = labels[:, None] == labels
        positive = draw_from(same, uniform[0])
        rows = torch.arange(len(labels), device=labels.device)
        negative = draw_from(same & (rows != positive[:, None]), uniform[1])
        return one_triplet_per_row(positive, negative), positive_mask(labels).any(1)
