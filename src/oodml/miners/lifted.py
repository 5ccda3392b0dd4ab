"""Lifted mining: all positives and all negatives of every anchor (Song et al. 2016)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import BaseMiner, negatives_of, positives_of


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
        valid = positives_of(labels)[:, :, None] & negatives_of(labels)[:, None, :]
        return torch.cartesian_prod(rows, rows, rows), valid.flatten()
