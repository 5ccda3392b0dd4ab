"""Learnable class vectors (proxies) and their similarity to embeddings."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from oodml.shapes import Labels


def class_vectors(n_classes: int, dim: int, generator: torch.Generator | None) -> nn.Parameter:
    """One learnable vector per class, with a uniformly random direction and expected length 1."""
    return nn.Parameter(torch.randn(n_classes, dim, generator=generator) / dim**0.5)


def class_mask(labels: Labels, n_classes: int) -> Bool[Tensor, "n c"]:
    """Whether each row belongs to each class."""
    return labels[:, None] == torch.arange(n_classes, device=labels.device)


def cosines(rows: Float[Tensor, "n d"], vectors: Float[Tensor, "c d"]) -> Float[Tensor, "n c"]:
    """Cosine similarity of each row to each vector."""
    normalize = nn.functional.normalize
    return normalize(rows, dim=1) @ normalize(vectors, dim=1).T
