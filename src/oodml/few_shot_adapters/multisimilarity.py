"""Multi-similarity loss over all pairs of a batch."""

from torch.func import vmap

from oodml.adaptation.support import SupportBatch
from oodml.few_shot_adapters._base import Betas, Embeddings, Labels, Losses, StepAdapter
from oodml.losses.multisimilarity import Loss


class Adapter(StepAdapter):
    """The loss with its default parameters."""

    def losses(
        self, embeddings: Embeddings, labels: Labels, batch: SupportBatch, beta: Betas
    ) -> Losses:
        """The multi-similarity loss of each episode."""
        return vmap(Loss().compute, (0, None))(embeddings, labels)
