"""Semi-hard mining (Schroff et al. 2015, arXiv 1503.03832)."""

from jaxtyping import Bool, Float
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    distances,
    draw_from,
    negative_mask,
    one_triplet_per_row,
    positive_mask,
    prefer,
)
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


def semihard_negatives(
    between: Float[Tensor, "n n"], labels: Labels, to_positive: Float[Tensor, " n"], margin: float
) -> Bool[Tensor, "n n"]:
    """Mask of the negatives that are farther than each anchor's positive by less than the margin.

    Args:
        to_positive: distance of each anchor to its positive.
    """
    beyond = between - to_positive[:, None]
    return negative_mask(labels) & (beyond > 0) & (beyond < margin)


class Miner(BaseMiner):
    """One triplet per anchor: a random positive and a random semi-hard negative.

    An anchor without a semi-hard negative gets any negative.

    Args:
        margin: how much farther than the positive a negative may be, a Euclidean distance.
    """

    def __init__(self, margin: float = 0.2) -> None:
        self.margin = margin

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        positives, negatives = positive_mask(labels), negative_mask(labels)
        positive = draw_from(positives, uniform[0])
        between = distances(embeddings)
        to_positive = between.gather(1, positive[:, None])[:, 0]
        semihard = semihard_negatives(between, labels, to_positive, self.margin)
        negative = draw_from(prefer(semihard, negatives), uniform[1])
        return one_triplet_per_row(positive, negative), positives.any(1) & negatives.any(1)
