"""Semi-hard mining (Schroff et al. 2015, arXiv 1503.03832)."""

from jaxtyping import Float
from torch import Tensor

from oodml.miners._base import PairMiner, Pairs, Partners, distances, draw_from, prefer
from oodml.shapes import Square, Uniform, Vectors


def semihard_negatives(
    between: Square, negatives: Pairs, to_positive: Float[Tensor, " n"], margin: float
) -> Pairs:
    """Mask of the negatives that are farther than the positive by less than the margin."""
    beyond = between - to_positive[:, None]
    return negatives & (beyond > 0) & (beyond < margin)


class Miner(PairMiner):
    """One triplet per anchor: a random positive and a random semi-hard negative, or any negative.

    `margin` is how much farther than the positive a negative may be, a Euclidean distance.
    """

    def __init__(self, margin: float = 0.2) -> None:
        self.margin = margin

    def partners(self, rows: Vectors, same: Pairs, other: Pairs, uniform: Uniform) -> Partners:
        positive = draw_from(same, uniform[0])
        between = distances(rows)
        to_positive = between.gather(1, positive[:, None])[:, 0]
        semihard = semihard_negatives(between, other, to_positive, self.margin)
        return positive, draw_from(prefer(semihard, other), uniform[1])
