"""Multi-similarity loss with built-in pair mining (Wang et al. 2019, arXiv 1904.06627)."""

from typing import Any

import torch

from oodml.errors import unknown
from oodml.losses._base import LabelLoss, log1p_sum_exp, masked_mean
from oodml.miners._base import negative_mask, positive_mask, squared_distance_matrix
from oodml.shapes import Labels, Scalar, Vectors

SIMILARITIES = ("inner", "euclidean")


def multisimilarity_loss(
    embeddings: Vectors,
    labels: Labels,
    positive_weight: float = 2.0,
    negative_weight: float = 40.0,
    margin: float = 0.1,
    threshold: float = 0.5,
    similarity: str = "inner",
    published: bool = False,
) -> Scalar:
    """The loss with the options of `Loss`, in a form that works under `torch.func.vmap`."""
    if similarity == "inner":
        similarities = embeddings @ embeddings.T
    else:
        similarities = 1 - (squared_distance_matrix(embeddings) + 1e-8).sqrt()
    positive, negative = positive_mask(labels), negative_mask(labels)
    nearest_negative = similarities.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    farthest_positive = similarities.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    candidates = ~negative if published else positive
    hard_positive = candidates & (similarities - margin < nearest_negative)
    hard_negative = negative & (similarities + margin > farthest_positive)
    above = similarities - threshold
    pull = log1p_sum_exp(-positive_weight * above, hard_positive) / positive_weight
    push = log1p_sum_exp(negative_weight * above, hard_negative) / negative_weight
    return masked_mean(pull + push, hard_positive.any(1) & hard_negative.any(1))


class Loss(LabelLoss):
    """Mean soft penalty of the hard pairs of each anchor, over anchors with hard pairs.

    A positive is hard if it is less similar than the most similar negative plus the margin; a
    negative is hard if it is more similar than the least similar positive minus the margin.

    Args:
        positive_weight, negative_weight: sharpness of the sums (α and β in the paper).
        margin, threshold: tolerance of the mining, and similarity around which pairs are penalized
            (λ in the paper).
        similarity: "inner" for the inner product, "euclidean" for 1 - Euclidean distance.
        published: allow an anchor to be its own hard positive, as the original code does.
    """

    positive_weight: float = 2.0
    negative_weight: float = 40.0
    margin: float = 0.1
    threshold: float = 0.5
    similarity: str = "inner"
    published: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity not in SIMILARITIES:
            raise unknown("similarity", self.similarity, SIMILARITIES, "loss multisimilarity")

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        weights = self.positive_weight, self.negative_weight
        more: tuple[Any, ...] = self.margin, self.threshold, self.similarity, self.published
        return multisimilarity_loss(rows, labels, *weights, *more)
