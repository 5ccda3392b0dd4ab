"""Any loss with any miner, by their names: the plain form of metric learning."""

import inspect
from typing import Any

from jaxtyping import Float
from torch import Tensor

from oodml import catalog
from oodml.methods._base import BaseMethod, Batch, Space


class Method(BaseMethod):
    """One loss on the embeddings, on the triplets of a miner where one is named.

    loss, miner: names of the catalogue, `pml.NAME` of pytorch-metric-learning, or import paths.
    loss_options, miner_options: theirs. A loss that has them is given `n_classes` and `dim`.
    """

    def __init__(
        self,
        space: Space,
        loss: str,
        miner: str | None = None,
        loss_options: dict[str, Any] | None = None,
        miner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(space)
        accepted = inspect.signature(catalog.find("losses", loss)).parameters
        sizes = {"n_classes": space.n_classes, "dim": space.dim}
        known = {name: size for name, size in sizes.items() if name in accepted}
        self.name = loss
        self.loss = catalog.load("losses", loss, **known | (loss_options or {}))
        self.miner = catalog.load("miners", miner, **(miner_options or {})) if miner else None

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        if self.miner is None:
            return {self.name: self.loss(batch.embeddings, batch.labels)}
        triplets = self.miner(batch.embeddings.detach(), batch.labels, batch.generator)
        return {self.name: self.loss(batch.embeddings, batch.labels, triplets)}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        own = getattr(self.loss, "parameter_groups", None)
        return super().parameter_groups(lr) if own is None else own(lr)
