"""Multi-similarity loss over all pairs of a batch."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from oodml.adaptation.batches import SupportBatch
from oodml.few_shot_adapters._base import Embeddings, StepAdapter
from oodml.losses.multisimilarity import multisimilarity_loss


class Adapter(StepAdapter):
    """The loss with its default parameters."""

    def losses(
        self,
        embeddings: Embeddings,
        labels: Int[Tensor, " b"],
        batch: SupportBatch,
        beta: Float[Tensor, "e c"],
    ) -> Float[Tensor, " e"]:
        """The multi-similarity loss of each episode."""
        return vmap(multisimilarity_loss, (0, None))(embeddings, labels)
