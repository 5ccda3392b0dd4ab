"""Potential-field metric learning (PFML, Bhatnagar & Ahuja 2025, arXiv 2405.18560)."""

from dataclasses import InitVar

import torch
from torch import Generator
from torch.nn.functional import normalize

from oodml.losses._base import LabelLoss, class_vectors, masked_mean
from oodml.miners._base import Pairs, negative_mask, positive_mask
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
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

    n_classes: int
    dim: int
    proxies: int = 15
    alpha: float = 4.0
    delta: float = 0.2
    lr_factor: float = 100.0
    generator: InitVar[Generator | None] = None

    def __post_init__(self, generator: Generator | None = None) -> None:
        super().__post_init__()
        self.vectors = class_vectors(self.n_classes * self.proxies, self.dim, generator)

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
