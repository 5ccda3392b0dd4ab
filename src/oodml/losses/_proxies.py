"""Vectors that stand for classes."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def class_vectors(n_classes: int, dim: int, generator: torch.Generator | None) -> nn.Parameter:
    """One learnable vector a class, in a uniformly random direction of expected length 1."""
    return nn.Parameter(torch.randn(n_classes, dim, generator=generator) / dim**0.5)


def of_class(labels: Int[Tensor, " n"], n_classes: int) -> Bool[Tensor, "n c"]:
    """Whether a row belongs to a class."""
    return labels[:, None] == torch.arange(n_classes, device=labels.device)


def cosines(rows: Float[Tensor, "n d"], vectors: Float[Tensor, "c d"]) -> Float[Tensor, "n c"]:
    """Cosine similarity of each row and each vector."""
    normalize = nn.functional.normalize
    return normalize(rows, dim=1) @ normalize(vectors, dim=1).T
