"""Triplet loss on squared distances (Schroff et al. 2015, arXiv 1503.03832)."""

from oodml.losses._base import TripletLoss, masked_mean, squared_distances
from oodml.shapes import Labels, Mask, PerTriplet, Scalar, Triplets, Vectors


def triplet_of_squared(
    positive: PerTriplet, negative: PerTriplet, valid: Mask, margin: float
) -> Scalar:
    """The triplet loss from the squared distances of the pairs of each triplet, also by vmap."""
    return masked_mean((positive - negative + margin).relu(), valid)


class Loss(TripletLoss):
    """Mean hinge of d(anchor, positive)² - d(anchor, negative)² + margin over triplets."""

    margin: float = 0.2

    def compute(self, rows: Vectors, labels: Labels, triplets: Triplets, valid: Mask) -> Scalar:
        return triplet_of_squared(*squared_distances(rows, triplets), valid, self.margin)
