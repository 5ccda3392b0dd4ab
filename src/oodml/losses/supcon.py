"""Supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362)."""

import torch

from oodml.losses._base import LabelLoss, masked_mean
from oodml.miners._base import positive_mask
from oodml.shapes import Labels, Scalar, Square, Vectors


def contrast(logits: Square, labels: Labels) -> Scalar:
    """Cross-entropy of each positive among all other rows: mean over positives, then anchors."""
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    log_probabilities = logits.masked_fill(own, -1e9).log_softmax(1)
    positive = positive_mask(labels)
    counts = positive.sum(1)
    per_anchor = -torch.where(positive, log_probabilities, 0).sum(1) / counts.clamp(min=1)
    return masked_mean(per_anchor, counts > 0)


class Loss(LabelLoss):
    """Each positive is identified among all other rows; `temperature` divides inner products."""

    temperature: float = 0.1

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        return contrast(rows @ rows.T / self.temperature, labels)
