"""Supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362)."""

import torch
from jaxtyping import Float
from torch import Tensor

from oodml.losses._base import LabelLoss, masked_mean
from oodml.miners._base import positive_mask
from oodml.shapes import Labels, Scalar, Vectors


def contrast(logits: Float[Tensor, "n n"], labels: Labels) -> Scalar:
    """Cross-entropy of each positive among all other rows: mean over positives, then anchors.

    Args:
        logits: similarities of all pairs of rows, divided by the temperature [n n].
        labels: class of each row [n]; rows without a positive are no anchors.
    """
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    log_probabilities = logits.masked_fill(own, -1e9).log_softmax(1)
    positive = positive_mask(labels)
    counts = positive.sum(1)
    per_anchor = -torch.where(positive, log_probabilities, 0).sum(1) / counts.clamp(min=1)
    return masked_mean(per_anchor, counts > 0)


class Loss(LabelLoss):
    """Each positive of a row is identified among all other rows of the batch.

    Args:
        temperature: divisor of the inner products.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        return contrast(rows @ rows.T / self.temperature, labels)
