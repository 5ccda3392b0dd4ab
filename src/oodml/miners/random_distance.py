"""Distance-weighted mining on true or permuted labels."""

from oodml.miners.distance import Miner as DistanceMiner
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(DistanceMiner):
    """The distance miner with the option `lowest`, optionally on labels permuted within the batch.

    `permute_labels` exists in the original code under this name, to learn features that ignore
    classes.
    """

    draws = 3

    def __init__(self, lowest: float = 0.5, permute_labels: bool = False) -> None:
        super().__init__(lowest)
        self.permute_labels = permute_labels

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        if self.permute_labels:
            labels = labels[uniform[2].argsort()]
        return super().choose(embeddings, labels, uniform)
