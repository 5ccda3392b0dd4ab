"""Potential-field metric learning (PFML, Bhatnagar & Ahuja 2025, arXiv 2405.18560)."""

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.functional import normalize

from oodml.losses._base import LabelLoss, masked_mean
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
    """Potential energy of embeddings and class vectors that attract and repel each other.

    Two points of one class at distance r have the energy -1/max(r, δ)^α: the attraction fades with
    the distance and vanishes within δ. Points of different classes have 1/min(r, δ)^α: they repel
    each other only within δ. The energy is averaged over the pairs of each kind; the paper sums it.

    Args:
        n_classes: number of classes.
        dim: dimension of the embedding.
        proxies: class vectors per class (M in the paper).
        alpha: exponent of the decay.
        delta: distance δ.
        lr_factor: learning rate of the class vectors as a multiple of the base learning rate.
        generator: source of the initial class vectors.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        proxies: int = 15,
        alpha: float = 4.0,
        delta: float = 0.2,
        lr_factor: float = 100.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_classes, self.alpha, self.delta, self.lr_factor = n_classes, alpha, delta, lr_factor
        vectors = torch.randn(n_classes * proxies, dim, generator=generator)
        self.vectors = nn.Parameter(vectors / dim**0.5)

    def compute(self, embeddings: Vectors, labels: Labels) -> Scalar:
        own = torch.arange(len(self.vectors), device=labels.device) % self.n_classes
        points = normalize(torch.cat([embeddings, self.vectors]), dim=1)
        classes = torch.cat([labels, own])
        same = classes[:, None] == classes
        other = ~torch.eye(len(points), dtype=torch.bool, device=labels.device)
        return self.energy(points, same & other, ~same)

    def energy(
        self, points: Vectors, same: Bool[Tensor, "n n"], unlike: Bool[Tensor, "n n"]
    ) -> Scalar:
        """Mean attraction plus mean repulsion, relative to the energy δ^-α."""
        squared = (2 - 2 * points @ points.T).clamp(min=0)
        ratio = (squared + 1e-12).sqrt() / self.delta
        attraction = -(ratio.clamp(min=1) ** -self.alpha)
        repulsion = ratio.clamp(0.1, 1) ** -self.alpha
        return masked_mean(attraction, same) + masked_mean(repulsion, unlike)
