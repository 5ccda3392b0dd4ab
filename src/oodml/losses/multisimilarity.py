"""Multi-similarity loss with its own pair mining (Wang et al. 2019, arXiv 1904.06627)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.losses._base import LabelLoss, log1p_sum_exp, masked_mean, positive_pairs


def multisimilarity_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    positive_weight: float = 2.0,
    negative_weight: float = 40.0,
    margin: float = 0.1,
    threshold: float = 0.5,
    published: bool = False,
) -> Float[Tensor, ""]:
    """Soft penalties of each anchor's hard pairs, over the anchors that have hard pairs.

    A positive is hard if it is less similar than the hardest negative plus the margin, a
    negative if it is more similar than the hardest positive minus the margin. Similarity is
    the inner product. published: an anchor can be its own hard positive, as in the original.
    No shape depends on the data: it runs under `torch.func.vmap`.
    """
    similarities = embeddings @ embeddings.T
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
    """The multi-similarity loss; its options are those of `multisimilarity_loss`."""

    def __init__(
        self,
        positive_weight: float = 2.0,
        negative_weight: float = 40.0,
        margin: float = 0.1,
        threshold: float = 0.5,
        published: bool = False,
    ) -> None:
        super().__init__()
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
            self.published,
        )
