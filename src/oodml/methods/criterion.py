"""Any loss with any miner, by their names: the plain form of metric learning."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.methods._mined import MinedLoss


class Method(BaseMethod):
    """One loss on the embeddings, on the triplets of a miner where one is named.

    loss, miner: names of the catalogue, `pml.NAME` of pytorch-metric-learning, or import paths.
    loss_options, miner_options: theirs. A loss that has them is given `n_classes` and `dim`.
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

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return {self.name: self.mined(batch.embeddings, batch.labels, batch.generator)}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return self.mined.parameter_groups(lr)
