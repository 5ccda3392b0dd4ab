"""Angular loss with N-pair loss (Wang et al. 2017, arXiv 1708.01682; Sohn 2016)."""

import math

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import normalize

from oodml.losses._base import TripletLoss, masked_mean
from oodml.shapes import Labels, Mask, PerTriplet, Scalar, Triplets, Vectors


class Loss(TripletLoss):
    """N-pair loss + `angular_weight` · angular loss + `norm_weight` · mean length of the rows.

    Each anchor-positive pair is compared with all of its negatives among the triplets; pairs may
    have different numbers of negatives. Only the angular part normalizes embeddings; `angle` is its
    bound on the angle at the negative, in degrees.
    """

    angle: float = 45.0
    angular_weight: float = 2.0
    norm_weight: float = 0.005

    def compute(self, rows: Vectors, labels: Labels, triplets: Triplets, valid: Mask) -> Scalar:
        anchor, positive, negative = triplets.unbind(1)
        n, tangent = len(labels), math.tan(math.radians(self.angle)) ** 2
        pairs = anchor * n + positive
        far = anchor * n + negative, positive * n + negative
        products = (rows @ rows.T).flatten()
        npair = products.index_select(0, far[0]) - products.index_select(0, pairs)
        unit = normalize(rows, dim=1)
        cosines = (unit @ unit.T).flatten()
        to_both = cosines.index_select(0, far[0]) + cosines.index_select(0, far[1])
        angular = 4 * tangent * to_both - 2 * (1 + tangent) * cosines.index_select(0, pairs)
        length: Tensor = rows.norm(dim=1).mean()
        weighted = self.angular_weight * pair_mean(angular, pairs, n**2, valid)
        return pair_mean(npair, pairs, n**2, valid) + weighted + self.norm_weight * length


def pair_mean(values: PerTriplet, pairs: Int[Tensor, " t"], n_pairs: int, valid: Mask) -> Scalar:
    """Mean of log(1 + sum of exp of a pair's values) over the pairs 0 … n_pairs - 1 with values."""
    values = values.masked_fill(~valid, -torch.inf)
    largest = values.new_zeros(n_pairs).scatter_reduce(0, pairs, values.detach(), "amax")
    sums = values.new_zeros(n_pairs).index_add(0, pairs, (values - largest[pairs]).exp())
    present = torch.zeros_like(sums, dtype=torch.int64).index_add(0, pairs, valid.long()) > 0
    return masked_mean(largest + ((-largest).exp() + sums).log(), present)
