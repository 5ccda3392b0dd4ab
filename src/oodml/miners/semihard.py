"""Semi-hard mining (Schroff et al. 2015, arXiv 1503.03832)."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners._base import (
    BaseMiner,
    distances,
    draw_from,
    negatives_of,
    positives_of,
    prefer,
    triplets_of_each,
)


def semihard_negatives(
    between: Float[Tensor, "n n"],
    labels: Int[Tensor, " n"],
    to_positive: Float[Tensor, " n"],
    margin: float,
) -> Bool[Tensor, "n n"]:
    """Negatives farther than each anchor's positive, by less than the margin (Euclidean)."""
    beyond = between - to_positive[:, None]
    return negatives_of(labels) & (beyond > 0) & (beyond < margin)


class Miner(BaseMiner):
    """One triplet an anchor: a random positive, a random semi-hard negative.

    margin: by how much farther than the positive it may be (Euclidean). An anchor without
    semi-hard negatives takes any negative.
    """

    def __init__(self, margin: float = 0.2) -> None:
        self.margin = margin

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        positives, negatives = positives_of(labels), negatives_of(labels)
        positive = draw_from(positives, uniform[0])
        between = distances(embeddings)
        to_positive = between.gather(1, positive[:, None])[:, 0]
        semihard = semihard_negatives(between, labels, to_positive, self.margin)
        negative = draw_from(prefer(semihard, negatives), uniform[1])
        return triplets_of_each(positive, negative), positives.any(1) & negatives.any(1)
