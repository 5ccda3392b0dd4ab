"""Quadruplet loss (Chen et al. 2017, arXiv 1704.01719)."""

import torch
from jaxtyping import Int
from torch import Tensor

from oodml.losses._base import TripletLoss, masked_mean
from oodml.shapes import Labels, Mask, Scalar, Triplets, Vectors


class Loss(TripletLoss):
    """A triplet hinge plus a hinge that keeps positive pairs closer than pairs of other classes.

    Distances are Euclidean; `first_margin` and `second_margin` are the margins of the hinges. The
    second one is averaged over all fourth rows whose class differs from the anchor's and from the
    negative's or, if `published`, over the rows `fourth` (by default all), whatever their classes.
    """

    first_margin: float = 0.2
    second_margin: float = 0.2
    published: bool = False
    fourth: Int[Tensor, " m"] | None = None

    def compute(self, rows: Vectors, labels: Labels, triplets: Triplets, valid: Mask) -> Scalar:
        anchor, positive, negative = triplets.unbind(1)
        # This form has a zero gradient on the diagonal, where rows are compared with themselves.
        between = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        to_positive = between[anchor, positive]
        near = (to_positive - between[anchor, negative] + self.first_margin).relu()
        apart = (to_positive[:, None] - between[negative] + self.second_margin).relu()
        other = labels[:, None] != labels
        allowed = other[anchor] & other[negative]
        if self.published:
            fourth = slice(None) if self.fourth is None else self.fourth
            apart, allowed = apart[:, fourth], torch.ones_like(allowed)[:, fourth]
        return masked_mean(near, valid) + masked_mean(apart, allowed & valid[:, None])
