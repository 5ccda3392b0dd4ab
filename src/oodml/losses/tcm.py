"""Threshold-consistent margin (Zhang et al. 2024, arXiv 2307.04047)."""

from torch.nn.functional import normalize

from oodml.losses._base import LabelLoss, masked_mean
from oodml.miners._base import negative_mask, positive_mask
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
    """Mean violation of one pair of cosine margins that all classes share, over violating pairs.

    It makes one similarity threshold fit all classes and is meant to be added to another loss.
    Positive pairs should exceed `positive_margin`, negative pairs stay below `negative_margin`;
    `positive_weight` and `negative_weight` are λ⁺ and λ⁻ in the paper.
    """

    positive_margin: float = 0.9
    negative_margin: float = 0.5
    positive_weight: float = 1.0
    negative_weight: float = 1.0

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        unit = normalize(rows, dim=1)
        cosine = unit @ unit.T
        low, high = self.positive_margin - cosine, cosine - self.negative_margin
        pull = masked_mean(low, positive_mask(labels) & (low >= 0))
        push = masked_mean(high, negative_mask(labels) & (high >= 0))
        return self.positive_weight * pull + self.negative_weight * push
