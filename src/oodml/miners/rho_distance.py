"""Distance-weighted mining with ρ-regularization (Roth et al. 2020, arXiv 2002.08473)."""

import torch

from oodml.errors import OodmlError
from oodml.miners.distance import Miner as DistanceMiner
from oodml.shapes import Labels, MaskedTriplets, Uniform, Vectors


class Miner(DistanceMiner):
    """The distance miner (`lowest`), in which some triplets push rows of one class apart.

    `probability` is that of a triplet (anchor, anchor, other row of the anchor's class).
    """

    relation = "ordinary or apart"
    draws = 3

    def __init__(self, probability: float = 0.2, lowest: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            problem = f"miner rho_distance: probability {probability} is not in [0, 1]"
            raise OodmlError(problem, "probability", probability)
        super().__init__(lowest)
        self.probability = probability

    def choose(self, embeddings: Vectors, labels: Labels, uniform: Uniform) -> MaskedTriplets:
        triplets, valid = super().choose(embeddings, labels, uniform)
        apart = (uniform[2] < self.probability)[:, None]
        return torch.where(apart, triplets[:, [0, 0, 1]], triplets), valid
