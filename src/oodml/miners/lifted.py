"""Lifted-structure mining: all positives and negatives of each anchor (Song et al. 2016)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import BaseMiner, negative_mask, positive_mask


class Miner(BaseMiner):
    """Every triplet that the labels allow."""

    draws = 0

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        rows = torch.arange(len(labels), device=labels.device)
        valid = positive_mask(labels)[:, :, None] & negative_mask(labels)[:, None, :]
        return torch.cartesian_prod(rows, rows, rows), valid.flatten()
