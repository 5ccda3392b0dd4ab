"""A random positive and a distance-weighted negative, of true or of permuted labels."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.miners.distance import Miner as DistanceMiner


class Miner(DistanceMiner):
    """The distance miner, optionally on labels that are permuted among the rows of the batch.

    permute_labels: what the original does under this name, for features that ignore classes;
    without it this is the distance miner. lowest: as there.
    """

    draws = 3

    def __init__(self, lowest: float = 0.5, permute_labels: bool = False) -> None:
        super().__init__(lowest)
        self.permute_labels = permute_labels

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        if self.permute_labels:
            labels = labels[uniform[2].argsort()]
        return super().choose(embeddings, labels, uniform)
