"""Distance-weighted mining on true or permuted labels."""

from oodml.miners.distance import Miner as DistanceMiner
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(DistanceMiner):
    """The distance miner, optionally on labels that are permuted within the batch.

    Args:
        lowest: distances are clamped to at least this value.
        permute_labels: permute the labels, as the original code does under this name, to learn
            features that ignore classes.
    """

    draws = 3

    def __init__(self, lowest: float = 0.5, permute_labels: bool = False) -> None:
        super().__init__(lowest)
        self.permute_labels = permute_labels

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        if self.permute_labels:
            labels = labels[uniform[2].argsort()]
        return super().choose(embeddings, labels, uniform)
