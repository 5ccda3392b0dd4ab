"""Quadruplet loss (Chen et al. 2017, arXiv 1704.01719)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.losses._base import TripletLoss, masked_mean


class Loss(TripletLoss):
    """A triplet hinge, and one that keeps positives nearer than two other classes are apart.

    Distances are Euclidean. The fourth row of a quadruplet is averaged over all rows that are
    neither of the anchor's nor of the negative's class.
    first_margin, second_margin: of the two hinges.
    published: the second hinge takes every pair of anchor and positive with the negative of
    its triplet and each of `fourth`, whatever their classes, as in the original.
    """

    def __init__(
        self,
        first_margin: float = 0.2,
        second_margin: float = 0.2,
        published: bool = False,
        fourth: Int[Tensor, " m"] | None = None,
    ) -> None:
        super().__init__()
        self.first_margin = first_margin
        self.second_margin = second_margin
        self.published = published
        self.fourth = fourth

    def compute(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        triplets: Int[Tensor, "t 3"],
        valid: Bool[Tensor, " t"],
    ) -> Float[Tensor, ""]:
        anchor, positive, negative = triplets.unbind(1)
        # Rows meet themselves here: the gradient of the exact form is 0 where they do.
        between = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
        to_positive = between[anchor, positive]
        near = (to_positive - between[anchor, negative] + self.first_margin).relu()
        apart = (to_positive[:, None] - between[negative] + self.second_margin).relu()
        other = labels[:, None] != labels
        allowed = other[anchor] & other[negative]
        if self.published:
            rows = torch.arange(len(labels), device=labels.device)
            fourth = rows if self.fourth is None else self.fourth
            apart, allowed = apart[:, fourth], torch.ones_like(allowed)[:, fourth]
        return masked_mean(near, valid) + masked_mean(apart, allowed & valid[:, None])
