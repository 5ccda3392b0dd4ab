"""ArcFace: softmax over class vectors with an additive angular margin (arXiv 1801.07698)."""

import math

import torch
from torch import Generator
from torch.nn.functional import cross_entropy, normalize

from oodml.losses._base import ClassVectorLoss, class_mask
from oodml.shapes import Labels, Scalar, Vectors


class Loss(ClassVectorLoss):
    """Cross-entropy of the scaled cosines to learned class vectors, with an angular margin.

    Args:
        margin: angle in radians that is added to the angle to the correct class vector.
        scale, vector_lr: factor on the cosines, and learning rate of the class vectors.
        published: clamp cosines to at least 1e-10, as the original code does. Embeddings more
            than 90° from their class vector then receive no gradient toward it.
    """

    margin: float = 0.5
    scale: float = 16.0
    vector_lr: float = 5e-4
    published: bool = False

    def __post_init__(self, generator: Generator | None = None) -> None:
        super().__post_init__(generator)
        self.own_lr = self.vector_lr

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        # The original code does not normalize embeddings, so its gradient is not tangential.
        unit = rows if self.published else normalize(rows, dim=1)
        lowest = 1e-10 if self.published else -1 + 1e-6
        cosine = (unit @ normalize(self.vectors, dim=1).T).clamp(lowest, 1 - 1e-6)
        sine = (1 - cosine.square()).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        if not self.published:
            # Beyond 180° the cosine would increase again and reverse the gradient.
            straight = cosine - self.margin * math.sin(self.margin)
            shifted = torch.where(cosine > -math.cos(self.margin), shifted, straight)
        logits = torch.where(class_mask(labels, len(self.vectors)), shifted, cosine)
        return cross_entropy(self.scale * logits, labels)
