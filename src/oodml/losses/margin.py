"""Margin loss with a learnt boundary (Wu et al. 2017, arXiv 1706.07567)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from oodml.losses._base import TripletLoss, squared_distances


def margin_loss(
    embeddings: Float[Tensor, "n d"],
    triplets: Int[Tensor, "t 3"],
    boundaries: Float[Tensor, " t"],
    valid: Bool[Tensor, " t"],
    margin: float = 0.2,
) -> Float[Tensor, ""]:
    """Both hinges around the boundary of each triplet, over the triplets with either active.

    Pairs of a class are pulled within boundary - margin, others pushed beyond boundary +
    margin (Euclidean). No shape depends on the data: it runs under `torch.func.vmap`.
    """
    positive, negative = squared_distances(embeddings, triplets)
    return margin_of_squared(positive, negative, boundaries, valid, margin)


def margin_of_squared(
    positive: Float[Tensor, " t"],
    negative: Float[Tensor, " t"],
    boundaries: Float[Tensor, " t"],
    valid: Bool[Tensor, " t"],
    margin: float,
) -> Float[Tensor, ""]:
    """`margin_loss` from the squared distances of the triplets' pairs."""
    pull = ((positive + 1e-8).sqrt() - boundaries + margin).relu()
    push = (boundaries - (negative + 1e-8).sqrt() + margin).relu()
    active = valid & ((pull > 0) | (push > 0))
    return torch.where(active, pull + push, 0).sum() / active.sum().clamp(min=1)


class Loss(TripletLoss):
    """The margin loss with its boundary β, one a class where `n_classes` is given, else shared.

    margin, beta: Euclidean distances. beta_lr: learning rate of β; learn_beta: else it stays.
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
        self.margin = margin
        self.beta_lr = beta_lr
        start = torch.full((n_classes or 1,), float(beta))
        self.beta = nn.Parameter(start, requires_grad=learn_beta)

    def compute(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        triplets: Int[Tensor, "t 3"],
        valid: Bool[Tensor, " t"],
    ) -> Float[Tensor, ""]:
        boundaries = self.boundaries(labels, triplets)
        return margin_loss(embeddings, triplets, boundaries, valid, self.margin)

    def boundaries(
        self, labels: Int[Tensor, " n"], triplets: Int[Tensor, "t 3"]
    ) -> Float[Tensor, " t"]:
        """The β of each triplet's anchor."""
        if len(self.beta) == 1:
            return self.beta.expand(len(triplets))
        return self.beta.index_select(0, labels.index_select(0, triplets[:, 0]))

    def own_lr(self, lr: float) -> float:
        return self.beta_lr
