"""Predicting the rotation of an image (Gidaris et al. 2018, arXiv 1803.07728)."""

import torch
from jaxtyping import Int, Shaped
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from oodml.losses._base import LabelLoss, class_vectors
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
    """Cross-entropy of a linear classifier, without bias, of the number of quarter turns, 0 to 3.

    The labels are numbers of quarter turns, not classes.
    """

    rotates = True

    def __init__(self, dim: int, generator: Generator | None = None) -> None:
        super().__init__()
        self.weight = class_vectors(4, dim, generator)

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        return cross_entropy(rows @ self.weight.T, labels)


def rotate(
    images: Shaped[Tensor, "n c s s"], quarter_turns: Int[Tensor, " n"]
) -> Shaped[Tensor, "n c s s"]:
    """Rotate each square image counterclockwise by its number of quarter turns."""
    rotated = torch.stack([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
    return rotated[quarter_turns, torch.arange(len(images), device=images.device)]
