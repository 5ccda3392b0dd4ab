"""Multi-similarity loss over all pairs of a batch."""

from torch.func import vmap

from oodml.adaptation.support import SupportBatch
from oodml.few_shot_adapters._base import Betas, Labels, Losses, Stack, StepAdapter
from oodml.losses.multisimilarity import multisimilarity_loss


class Adapter(StepAdapter):
    """The loss with its default parameters."""

    def losses(self, embeddings: Stack, labels: Labels, batch: SupportBatch, beta: Betas) -> Losses:
        """The multi-similarity loss of each episode."""
        return vmap(multisimilarity_loss, (0, None))(embeddings, labels)
