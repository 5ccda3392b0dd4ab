"""Triplet loss on squared distances with distance-weighted negatives."""

from torch.func import vmap

from oodml.adaptation.batches import SupportBatch
from oodml.few_shot_adapters._base import (
    Betas,
    Embeddings,
    Labels,
    Losses,
    StepAdapter,
    mine_triplets,
    triplet_distances,
)
from oodml.losses.triplet import triplet_of_squared


class Adapter(StepAdapter):
    """One triplet per anchor; uses `margin` of the settings."""

    def losses(
        self, embeddings: Embeddings, labels: Labels, batch: SupportBatch, beta: Betas
    ) -> Losses:
        """The triplet loss of each episode."""
        uniform = batch.uniform.to(embeddings.device)
        triplets, valid = mine_triplets(embeddings, labels, uniform)
        positive, negative = triplet_distances(embeddings, triplets)
        return vmap(triplet_of_squared, (0, 0, 0, None))(
            positive, negative, valid, self.settings.margin
        )
