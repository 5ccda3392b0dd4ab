"""Triplets within one class, for features that differ inside a class (Milbich et al. 2020)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import BaseMiner, draw_from, positives_of, triplets_of_each


class Miner(BaseMiner):
    """One triplet an anchor: two different random rows of its class, one may be the anchor."""

    relation = "within"

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        same = labels[:, None] == labels
        positive = draw_from(same, uniform[0])
        rows = torch.arange(len(labels), device=labels.device)
        negative = draw_from(same & (rows != positive[:, None]), uniform[1])
        return triplets_of_each(positive, negative), positives_of(labels).any(1)
