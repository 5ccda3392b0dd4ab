"""Triplet loss on squared distances (Schroff et al. 2015, arXiv 1503.03832)."""

from jaxtyping import Float
from torch import Tensor

from oodml.losses._base import TripletLoss, masked_mean, squared_distances
from oodml.shapes import Labels, Mask, Scalar, Triplets, Vectors


def triplet_loss(
    embeddings: Vectors, triplets: Triplets, valid: Mask, margin: float = 0.2
) -> Scalar:
    """Mean hinge of d(anchor, positive)² - d(anchor, negative)² + margin over valid triplets.

    Shapes do not depend on the data, so the function works under `torch.func.vmap`.
    """
    positive, negative = squared_distances(embeddings, triplets)
    return triplet_of_squared(positive, negative, valid, margin)


def triplet_of_squared(
    positive: Float[Tensor, " t"], negative: Float[Tensor, " t"], valid: Mask, margin: float
) -> Scalar:
    """`triplet_loss` computed from the squared distances of the pairs of each triplet."""
    return masked_mean((positive - negative + margin).relu(), valid)


class Loss(TripletLoss):
    """Triplet loss; see `triplet_loss`.

    Args:
        margin: squared Euclidean distance.
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def compute(
        self, embeddings: Vectors, labels: Labels, triplets: Triplets, valid: Mask
    ) -> Scalar:
        return triplet_loss(embeddings, triplets, valid, self.margin)
