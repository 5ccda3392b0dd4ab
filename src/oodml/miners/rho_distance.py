"""Distance-weighted mining with ρ-regularization (Roth et al. 2020, arXiv 2002.08473)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oodml.errors import OodmlError
from oodml.miners._base import one_triplet_per_row
from oodml.miners.distance import Miner as DistanceMiner


class Miner(DistanceMiner):
    """The distance miner, in which some triplets push rows of one class apart.

    Args:
        probability: probability that a triplet is replaced by (anchor, anchor, other row of the
            anchor's class).
        lowest: distances are clamped to at least this value.
    """

    relation = "ordinary or apart"
    draws = 3

    def __init__(self, probability: float = 0.2, lowest: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise OodmlError(
                f"miner rho_distance: probability {probability} is not in [0, 1]",
                location="probability",
                given=probability,
            )
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
        switched = one_triplet_per_row(
            torch.where(apart, anchor, positive), torch.where(apart, positive, negative)
        )
        return switched, valid
