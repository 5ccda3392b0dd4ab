"""Margin loss with a learnable β per support class and distance-weighted negatives."""

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
from oodml.losses.margin import margin_of_squared


class Adapter(StepAdapter):
    """One triplet per anchor; uses `margin` and `beta` of the settings."""

    def losses(
        self, embeddings: Embeddings, labels: Labels, batch: SupportBatch, beta: Betas
    ) -> Losses:
        """The margin loss of each episode."""
        device = embeddings.device
        triplets, valid = mine_triplets(embeddings, labels, batch.uniform.to(device))
        positive, negative = triplet_distances(embeddings, triplets)
        anchor_beta = beta.gather(1, batch.classes.to(device))
        return vmap(margin_of_squared, (0, 0, 0, 0, None))(
            positive, negative, anchor_beta, valid, self.settings.margin
        )
