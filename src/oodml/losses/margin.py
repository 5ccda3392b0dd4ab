"""Margin loss with a learned boundary (Wu et al. 2017, arXiv 1706.07567)."""

import torch
from torch import nn

from oodml.losses._base import TripletLoss, squared_distances
from oodml.shapes import Labels, Mask, PerTriplet, Scalar, Triplets, Vectors


def margin_of_squared(
    positive: PerTriplet, negative: PerTriplet, boundaries: PerTriplet, valid: Mask, margin: float
) -> Scalar:
    """The margin loss from the squared distances of the pairs of each triplet, also by vmap."""
    pull = ((positive + 1e-8).sqrt() - boundaries + margin).relu()
    push = (boundaries - (negative + 1e-8).sqrt() + margin).relu()
    active = valid & ((pull > 0) | (push > 0))
    return torch.where(active, pull + push, 0).sum() / active.sum().clamp(min=1)


class Loss(TripletLoss):
    """Mean hinge loss around a learned boundary β, over triplets with at least one active hinge.

    Positive pairs are pulled within β - margin, negative pairs are pushed beyond β + margin, in
    Euclidean distance. There is one β per class, or one shared by all if `n_classes` is None.
    `beta` and `beta_lr` are its initial value and learning rate; `learn_beta`: whether it trains.
    """

    def __init__(
        self,
        n_classes: int | None = None,
        margin: float = 0.2,
        beta: float = 1.2,
        beta_lr: float = 5e-4,
        learn_beta: bool = True,
    ) -> None:
        super().__init__()
        self.margin, self.own_lr = margin, beta_lr
        start = torch.full((n_classes or 1,), float(beta))
        self.beta = nn.Parameter(start, requires_grad=learn_beta)

    def compute(self, rows: Vectors, labels: Labels, triplets: Triplets, valid: Mask) -> Scalar:
        if len(self.beta) == 1:
            boundaries = self.beta.expand(len(triplets))
        else:
            boundaries = self.beta.index_select(0, labels.index_select(0, triplets[:, 0]))
        pairs = squared_distances(rows, triplets)
        return margin_of_squared(*pairs, boundaries, valid, self.margin)
