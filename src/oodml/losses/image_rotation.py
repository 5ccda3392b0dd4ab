"""Telling by how many quarter turns an image is rotated (Gidaris et al. 2018, 1803.07728)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from oodml.losses._base import LabelLoss


class Loss(LabelLoss):
    """Cross-entropy of a linear layer without bias from embeddings [n dim] of rotated images.

    The labels are numbers of quarter turns, 0 … 3. generator: of the layer's first values.
    """

    def __init__(self, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, dim, generator=generator) / dim**0.5)

    def compute(
        self, embeddings: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        return functional.cross_entropy(embeddings @ self.weight.T, labels)


def rotate(
    images: Float[Tensor, "n c s s"], quarter_turns: Int[Tensor, " n"]
) -> Float[Tensor, "n c s s"]:
    """Each square image rotated counter-clockwise by its number of quarter turns."""
    turned = torch.stack([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
    return turned[quarter_turns, torch.arange(len(images), device=images.device)]
