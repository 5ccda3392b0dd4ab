"""Any loss, with any miner if it takes triplets."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.methods._mined import MinedLoss


class Method(BaseMethod):
    """One loss on the embeddings, computed on the triplets of a miner if one is named.

    Args:
        sizes: the sizes that the method is built for; `n_classes` and `dim` are passed to losses
            that have these options.
        loss: name of a loss, `pml.NAME` of pytorch-metric-learning, or import path.
        miner: the same for a miner, or None.
        loss_options: options of the loss.
        miner_options: options of the miner.
    """

    def __init__(
        self,
        sizes: Sizes,
        loss: str,
        miner: str | None = None,
        loss_options: dict[str, Any] | None = None,
        miner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sizes)
        self.name = loss
        self.mined = MinedLoss(sizes.n_classes, sizes.dim, loss, miner, loss_options, miner_options)
        self.rotates = bool(getattr(self.mined.loss, "rotates", False))
        if self.rotates:
            reason = f"{loss} rotates images, which cached features do not allow"
            self.modes = {"finetune": "", "head": reason}  # type: ignore[misc]

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return {self.name: self.mined(batch.embeddings, batch.labels, batch.generator)}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return self.mined.parameter_groups(lr)
