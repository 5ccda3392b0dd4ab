"""Potential-field metric learning (PFML, Bhatnagar & Ahuja 2025, arXiv 2405.18560)."""

import torch
from torch.nn.functional import normalize

from oodml.losses._base import ClassVectorLoss, masked_mean
from oodml.miners._base import Pairs, negative_mask, positive_mask
from oodml.shapes import Labels, Scalar, Vectors


class Loss(ClassVectorLoss):
    """Potential energy of embeddings and class vectors that attract and repel each other.

    Two points of one class at distance r have the energy -1/max(r, δ)^α: the attraction fades with
    the distance and vanishes within δ. Points of different classes have 1/min(r, δ)^α: they repel
    each other only within δ. The energy, relative to δ^-α, is averaged over the pairs of each kind;
    the paper sums it.

    Args:
        proxies: class vectors per class (M in the paper).
        alpha, delta: exponent α of the decay, and the distance δ.
        lr_factor: learning rate of the class vectors as a multiple of the base learning rate.
    """

    proxies: int = 15
    alpha: float = 4.0
    delta: float = 0.2
    lr_factor: float = 100.0

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        own = torch.arange(len(self.vectors), device=labels.device) % self.n_classes
        points = normalize(torch.cat([rows, self.vectors]), dim=1)
        classes = torch.cat([labels, own])
        return self.energy(points, positive_mask(classes), negative_mask(classes))

    def energy(self, points: Vectors, same: Pairs, unlike: Pairs) -> Scalar:
        """Mean attraction plus mean repulsion."""
        squared = (2 - 2 * points @ points.T).clamp(min=0)
        ratio = (squared + 1e-12).sqrt() / self.delta
        attraction = masked_mean(-(ratio.clamp(min=1) ** -self.alpha), same)
        return attraction + masked_mean(ratio.clamp(0.1, 1) ** -self.alpha, unlike)
