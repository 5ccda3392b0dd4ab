"""Contrastive loss on the two pairs of each triplet (Hadsell et al. 2006)."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.losses._base import TripletLoss, masked_mean, squared_distances


class Loss(TripletLoss):
    """Mean over triplets of the hinge losses of both pairs, on Euclidean distances.

    Args:
        positive_margin: distance within which positive pairs are not penalized.
        negative_margin: distance beyond which negative pairs are not penalized.
    """

    def __init__(self, positive_margin: float = 0.0, negative_margin: float = 1.0) -> None:
        super().__init__()
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin

    def compute(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        triplets: Int[Tensor, "t 3"],
        valid: Bool[Tensor, " t"],
    ) -> Float[Tensor, ""]:
        positive, negative = (
            (squared + 1e-8).sqrt() for squared in squared_distances(embeddings, triplets)
        )
        pull = (positive - self.positive_margin).relu()
        push = (self.negative_margin - negative).relu()
        return masked_mean(pull + push, valid)
