"""N-pair mining: one positive and all negatives of each anchor (Sohn 2016)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import BaseMiner, draw_from, negative_mask, positive_mask


class Miner(BaseMiner):
    """Triplets of each anchor, one random positive, and every row of another class."""

    draws = 1

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        rows = torch.arange(len(labels), device=labels.device)
        positive = draw_from(positives, uniform[0])
        pairs = torch.cartesian_prod(rows, rows)
        triplets = torch.stack([pairs[:, 0], positive[pairs[:, 0]], pairs[:, 1]], dim=1)
        return triplets, (negatives & positives.any(1, keepdim=True)).flatten()
