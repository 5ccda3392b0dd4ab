"""Multi-similarity loss with its own pair mining (Wang et al. 2019, arXiv 1904.06627)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.errors import unknown
from oodml.losses._base import (
    LabelLoss,
    log1p_sum_exp,
    masked_mean,
    positive_pairs,
    squared_distance_table,
)

SIMILARITIES = ("inner", "euclidean")


def multisimilarity_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    positive_weight: float = 2.0,
    negative_weight: float = 40.0,
    margin: float = 0.1,
    threshold: float = 0.5,
    similarity: str = "inner",
    published: bool = False,
) -> Float[Tensor, ""]:
    """Soft penalties of each anchor's hard pairs, over the anchors that have hard pairs.

    A positive is hard if it is less similar than the hardest negative plus the margin, a
    negative if it is more similar than the hardest positive minus the margin. Similarity is
    the "inner" product, or 1 - the "euclidean" distance.
    published: an anchor can be its own hard positive, as in the original.
    No shape depends on the data: it runs under `torch.func.vmap`.
    """
    if similarity == "inner":
        similarities = embeddings @ embeddings.T
    else:
        similarities = 1 - (squared_distance_table(embeddings) + 1e-8).sqrt()
    positive, negative = positive_pairs(labels), labels[:, None] != labels
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
    """The multi-similarity loss, see `multisimilarity_loss`.

    positive_weight, negative_weight: the sharpness of each sum. threshold: the cosine around
    which both turn. margin: of hardness, by which pairs are mined. published: as in the original.
    """

    def __init__(
        self,
        positive_weight: float = 2.0,
        negative_weight: float = 40.0,
        margin: float = 0.1,
        threshold: float = 0.5,
        similarity: str = "inner",
        published: bool = False,
    ) -> None:
        super().__init__()
        if similarity not in SIMILARITIES:
            raise unknown("similarity", similarity, SIMILARITIES, "loss multisimilarity")
        self.similarity = similarity
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight
        self.margin = margin
        self.threshold = threshold
        self.published = published

    def compute(
        self, embeddings: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        return multisimilarity_loss(
            embeddings,
            labels,
            self.positive_weight,
            self.negative_weight,
            self.margin,
            self.threshold,
            self.similarity,
            self.published,
        )
