"""A loss with its miner, as one module."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from oodml import catalog


class MinedLoss(nn.Module):
    """A loss of the catalogue, on the triplets of a miner where one is named.

    n_classes, dim: given to a loss that has them, unless its options say otherwise.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        loss: str,
        miner: str | None = None,
        loss_options: dict[str, Any] | None = None,
        miner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        accepted = inspect.signature(catalog.find("losses", loss)).parameters
        sizes = {"n_classes": n_classes, "dim": dim}
        known = {name: size for name, size in sizes.items() if name in accepted}
        self.loss = catalog.load("losses", loss, **known | (loss_options or {}))
        self.miner = catalog.load("miners", miner, **(miner_options or {})) if miner else None

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The loss of a batch; the generator mines."""
        if self.miner is None:
            found: Tensor = self.loss(embeddings, labels)
            return found
        masked = getattr(self.miner, "masked", None)
        if masked is None or "valid" not in inspect.signature(self.loss.forward).parameters:
            triplets = self.miner(embeddings.detach(), labels, generator)
            return self.loss(embeddings, labels, triplets)  # type: ignore[no-any-return]
        triplets, valid = masked(embeddings.detach(), labels, generator)
        return self.loss(embeddings, labels, triplets, valid)  # type: ignore[no-any-return]

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The loss's own groups, or one of all its parameters."""
        own = getattr(self.loss, "parameter_groups", None)
        if own is not None:
            return own(lr)  # type: ignore[no-any-return]
        parameters = list(self.loss.parameters())
        return [{"params": parameters, "lr": lr, "weight_decay": 0.0}] if parameters else []


def groups_of(losses: Iterable[nn.Module], lr: float) -> list[dict[str, Any]]:
    """The optimiser groups of several losses."""
    mined = (loss for loss in losses if isinstance(loss, MinedLoss))
    return [group for loss in mined for group in loss.parameter_groups(lr)]
