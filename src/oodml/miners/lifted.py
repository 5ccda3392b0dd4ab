"""Lifted-structure mining: all positives and negatives of each anchor (Song et al. 2016)."""

import torch

from oodml.miners._base import BaseMiner, negative_mask, positive_mask
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(BaseMiner):
    """Every triplet that the labels allow."""

    draws = 0

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        rows = torch.arange(len(labels), device=labels.device)
        valid = positive_mask(labels)[:, :, None] & negative_mask(labels)[:, None, :]
        return torch.cartesian_prod(rows, rows, rows), valid.flatten()
