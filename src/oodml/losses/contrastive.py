"""Contrastive loss on the two pairs of each triplet (Hadsell et al. 2006)."""

from oodml.losses._base import TripletLoss, masked_mean, squared_distances
from oodml.shapes import Labels, Mask, Scalar, Triplets, Vectors


class Loss(TripletLoss):
    """Mean over triplets of the hinge losses of both pairs, on Euclidean distances.

    Pairs are not penalized within `positive_margin`, or beyond `negative_margin`.
    """

    positive_margin: float = 0.0
    negative_margin: float = 1.0

    def compute(self, rows: Vectors, labels: Labels, triplets: Triplets, valid: Mask) -> Scalar:
        positive, negative = ((d + 1e-8).sqrt() for d in squared_distances(rows, triplets))
        pull = (positive - self.positive_margin).relu()
        return masked_mean(pull + (self.negative_margin - negative).relu(), valid)
