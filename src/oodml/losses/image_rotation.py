"""Predicting the rotation of an image (Gidaris et al. 2018, arXiv 1803.07728)."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from oodml.losses._base import LabelLoss
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
    """Cross-entropy of a linear classifier that predicts the number of quarter turns, 0 to 3.

    The labels are numbers of quarter turns, not classes. The classifier has no bias.
    """

    rotates = True

    def __init__(self, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, dim, generator=generator) / dim**0.5)

    def compute(self, embeddings: Vectors, labels: Labels) -> Scalar:
        return functional.cross_entropy(embeddings @ self.weight.T, labels)


def rotate(
    images: Shaped[Tensor, "n c s s"], quarter_turns: Int[Tensor, " n"]
) -> Shaped[Tensor, "n c s s"]:
    """Rotate each square image counterclockwise by its number of quarter turns."""
    rotated = torch.stack([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
    return rotated[quarter_turns, torch.arange(len(images), device=images.device)]
