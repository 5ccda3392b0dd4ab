"""A loss combined with its miner."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from oodml import catalog
from oodml.errors import OodmlError
from oodml.losses._base import accepts_triplets


class MinedLoss(nn.Module):
    """A loss, computed on the triplets of a miner if one is named.

    Args:
        n_classes: number of classes, passed to losses that have this option.
        dim: dimension of the embedding, passed to losses that have this option.
        loss: name or import path of the loss.
        miner: name or import path of the miner; None or "" for none.
        loss_options: options of the loss; they override `n_classes` and `dim`.
        miner_options: options of the miner.
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
        accepted = inspect.signature(catalog.get_class("losses", loss)).parameters
        sizes = {"n_classes": n_classes, "dim": dim}
        sizes = {name: size for name, size in sizes.items() if name in accepted}
        self.loss = catalog.load("losses", loss, **sizes | (loss_options or {}))
        self.miner = catalog.load("miners", miner, **(miner_options or {})) if miner else None
        if "labels" not in inspect.signature(self.loss.forward).parameters:
            raise OodmlError(
                f"loss {loss!r} is not computed from embeddings and labels, but part of a method: "
                "moco and fast_moco of method moco, s2sd of s2sd, adversarial_separation of diva",
                location="loss",
                given=loss,
            )
        if miner and not accepts_triplets(self.loss):
            raise OodmlError(
                f"loss {loss!r} takes no triplets, so miner {miner!r} would have no effect; "
                "remove miner or choose another loss",
                location="miner",
                given=miner,
            )

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch; `generator` is the miner's source of randomness."""
        if self.miner is None:
            return self.loss(embeddings, labels)  # type: ignore[no-any-return]
        masked = getattr(self.miner, "masked", None)
        if masked is None or "valid" not in inspect.signature(self.loss.forward).parameters:
            triplets = self.miner(embeddings.detach(), labels, generator)
            return self.loss(embeddings, labels, triplets)  # type: ignore[no-any-return]
        triplets, valid = masked(embeddings.detach(), labels, generator)
        return self.loss(embeddings, labels, triplets, valid)  # type: ignore[no-any-return]

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The loss's own optimizer groups if it defines any, else one with all its parameters."""
        if hasattr(self.loss, "parameter_groups"):
            return self.loss.parameter_groups(lr)  # type: ignore[no-any-return]
        parameters = list(self.loss.parameters())
        return [{"params": parameters, "lr": lr, "weight_decay": 0.0}] if parameters else []


def groups_of(losses: Iterable[nn.Module], lr: float) -> list[dict[str, Any]]:
    """The optimizer groups of the mined losses among some modules."""
    mined = (loss for loss in losses if isinstance(loss, MinedLoss))
    return [group for loss in mined for group in loss.parameter_groups(lr)]
