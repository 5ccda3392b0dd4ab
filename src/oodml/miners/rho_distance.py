"""Distance-weighted mining with the ρ-regularisation (Roth et al. 2020, arXiv 2002.08473)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.errors import OodmlError
from oodml.miners._base import triplets_of_each
from oodml.miners.distance import Miner as DistanceMiner


class Miner(DistanceMiner):
    """The distance miner; with `probability` a triplet is (a, a, other row of a's class).

    Such a triplet pushes a class apart. lowest: as in the distance miner.
    """

    relation = "ordinary or apart"
    draws = 3

    def __init__(self, probability: float = 0.2, lowest: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise OodmlError(f"miner rho_distance: probability {probability} is not in [0, 1]")
        super().__init__(lowest)
        self.probability = probability

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        triplets, valid = super().choose(embeddings, labels, uniform)
        anchor, positive, negative = triplets.unbind(1)
        apart = uniform[2] < self.probability
        switched = triplets_of_each(
            torch.where(apart, anchor, positive), torch.where(apart, positive, negative)
        )
        return switched, valid
