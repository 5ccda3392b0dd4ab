"""Recall@k surrogate with similarity mix-up (Patel et al. 2022, arXiv 2108.11179)."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from oodml.losses._base import RandomLabelLoss, masked_mean, next_of_class
from oodml.shapes import Labels, Scalar, Vectors


class Loss(RandomLabelLoss):
    """One minus a smooth Recall@k within the batch, averaged over the cut-offs `ks`.

    The steps of ranks and of Recall@k are replaced by sigmoids. With `mix`, each row is also mixed
    with another row of its class, in random proportions in training and by halves without a
    generator; the mixed rows are further queries and gallery rows. The paper mixes all pairs.

    Args:
        rank_temperature, recall_temperature: temperatures of the comparison of two similarities
            (τ₂ in the paper), and of a rank with k (τ₁).
        positives: maximum number of positives per query, the least similar ones; a fixed number
            keeps the memory at n² · positives.
    """

    ks: Sequence[int] = (1, 2, 4, 8, 16)
    rank_temperature: float = 0.01
    recall_temperature: float = 1.0
    mix: bool = True
    positives: int = 16

    def compute_random(self, rows: Vectors, labels: Labels, generator: Generator | None) -> Scalar:
        valid = torch.ones_like(labels, dtype=torch.bool)
        if self.mix:
            mixed, paired = self._mixed(rows, labels, generator)
            rows, labels = torch.cat([rows, mixed]), labels.repeat(2)
            valid = torch.cat([valid, paired])
        n = len(labels)
        others = valid & ~torch.eye(n, dtype=torch.bool, device=labels.device)
        same = (labels[:, None] == labels) & others
        similarities = rows @ rows.T
        order = (-similarities.detach()).masked_fill(~same, -torch.inf)
        chosen = order.topk(min(self.positives, n)).indices
        known = same.gather(1, chosen)
        to_positive = similarities.gather(1, chosen)[:, :, None]
        above = ((similarities[:, None] - to_positive) / self.rank_temperature).sigmoid()
        counted = others[:, None] & (chosen[:, :, None] != torch.arange(n, device=labels.device))
        ranks = 1 + torch.where(counted, above, 0).sum(2)
        recalls = []
        for k in self.ks:
            within = torch.where(known, ((k - ranks) / self.recall_temperature).sigmoid(), 0)
            recalls.append(within.sum(1).clamp(max=k) / known.sum(1).clamp(1, k))
        return masked_mean(1 - torch.stack(recalls).mean(0), valid & known.any(1))

    def _mixed(
        self, embeddings: Vectors, labels: Labels, generator: Generator | None
    ) -> tuple[Vectors, Tensor]:
        """Each row mixed with the next row of its class, and whether there is one."""
        following = next_of_class(labels)
        share = embeddings.new_full((len(labels), 1), 0.5)
        if generator is not None:
            share = torch.rand(share.shape, generator=generator, device=generator.device).to(share)
        mixed = share * embeddings + (1 - share) * embeddings[following]
        return mixed, following != torch.arange(len(labels), device=labels.device)
