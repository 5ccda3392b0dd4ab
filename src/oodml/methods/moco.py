"""Momentum contrast without labels (He et al. 2020, arXiv 1911.05722)."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from oodml import catalog
from oodml.errors import unknown
from oodml.methods._base import Batch, MomentumMethod, Sizes

LOSSES = ("moco", "fast_moco")


class Method(MomentumMethod):
    """Two views of an image attract each other and repel a queue of other images, without labels.

    Args:
        temperature: divisor of the inner products.
        momentum, queue_batches: of the model copy that encodes second views, and of its keys.
        loss, loss_options: "moco", or "fast_moco" to weight keys by distance; further options.
    """

    def __init__(
        self,
        sizes: Sizes,
        temperature: float = 0.07,
        momentum: float = 0.999,
        queue_batches: int = 30,
        loss: str = "moco",
        loss_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sizes, momentum, queue_batches)
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES, "method moco")
        self.name = loss
        options = {"temperature": temperature} | (loss_options or {})
        self.contrast = catalog.load("losses", loss, **options)

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        queue = self.queued_keys(batch)
        return {self.name: self.contrast(batch.embeddings, self.encode_keys(batch), queue)}
