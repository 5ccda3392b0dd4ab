"""N-pair mining: one positive and all negatives of each anchor (Sohn 2016)."""

import torch

from oodml.miners._base import BaseMiner, draw_from, negative_mask, positive_mask
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(BaseMiner):
    """Triplets of each anchor, one random positive, and every row of another class."""

    draws = 1

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        rows = torch.arange(len(labels), device=labels.device)
        positive = draw_from(positives, uniform[0])
        pairs = torch.cartesian_prod(rows, rows)
        triplets = torch.stack([pairs[:, 0], positive[pairs[:, 0]], pairs[:, 1]], dim=1)
        return triplets, (negatives & positives.any(1, keepdim=True)).flatten()
