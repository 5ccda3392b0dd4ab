"""What every loss shares: its signature, its precision, and the triplets it takes by default."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class BaseLoss(nn.Module):
    """The part of a loss that does not depend on what it is computed from."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimiser groups of the loss's own parameters for the base learning rate `lr`."""
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": own, "lr": self.own_lr(lr), "weight_decay": 0.0}] if own else []

    def own_lr(self, lr: float) -> float:
        """The learning rate of the loss's own parameters."""
        return lr


class LabelLoss(BaseLoss):
    """A loss of embeddings [n d] and their labels [n] alone."""

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        triplets: None = None,
    ) -> Float[Tensor, ""]:
        """The loss of a batch, computed in full precision under any autocast.

        triplets: none; the argument is there so that every loss is called alike.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.compute(full_precision(embeddings), labels)

    def compute(
        self, embeddings: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """The loss of embeddings that have at least single precision."""
        raise NotImplementedError


class TripletLoss(BaseLoss):
    """A loss of triplets [t 3] of rows: anchor, positive, negative."""

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        triplets: Int[Tensor, "t 3"] | None = None,
        valid: Bool[Tensor, " t"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of a batch, computed in full precision under any autocast.

        triplets: all that the labels allow, if not given. valid: which of them count; it
        keeps shapes fixed where a miner finds nothing for some anchors (`Miner.masked`).
        """
        if triplets is None:
            triplets, valid = all_triplets(labels), None
        if valid is None:
            valid = triplets.new_ones(len(triplets), dtype=torch.bool)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.compute(full_precision(embeddings), labels, triplets, valid)

    def compute(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        triplets: Int[Tensor, "t 3"],
        valid: Bool[Tensor, " t"],
    ) -> Float[Tensor, ""]:
        """The loss of the valid triplets; 0 if there are none."""
        raise NotImplementedError


def full_precision(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Half-precision values in single precision, others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def positive_pairs(labels: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Which two different rows share their label."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (labels[:, None] == labels) & ~itself


def all_triplets(labels: Int[Tensor, " n"]) -> Int[Tensor, "t 3"]:
    """Every (anchor, positive, negative) that the labels allow, in order."""
    negative = labels[:, None] != labels
    return (positive_pairs(labels)[:, :, None] & negative[:, None, :]).nonzero()


def squared_distances(
    embeddings: Float[Tensor, "n d"], triplets: Int[Tensor, "t 3"]
) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """Squared Euclidean distances of anchor and positive, anchor and negative, of triplets."""
    if len(triplets) <= 4 * len(embeddings):
        rows = [embeddings.index_select(0, column) for column in triplets.unbind(1)]
        to_positive, to_negative = rows[0] - rows[1], rows[0] - rows[2]
        return to_positive.square().sum(-1), to_negative.square().sum(-1)
    anchor, positive, negative = triplets.unbind(1)
    # The rows are not gathered: hundreds of triplets a row would copy each row as often.
    table = squared_distance_table(embeddings)
    return table[anchor, positive], table[anchor, negative]


def squared_distance_table(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Squared Euclidean distances between all rows."""
    products = embeddings @ embeddings.T
    norms = products.diagonal()
    return (norms[:, None] + norms - 2 * products).clamp(min=0)


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """The mean of the values where the mask is set; 0, with zero gradient, if it nowhere is."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def log1p_sum_exp(values: Float[Tensor, "n m"], mask: Bool[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """log(1 + sum of exp over the masked entries of each row), without overflow."""
    hidden = values.masked_fill(~mask, -torch.inf)
    return torch.cat([hidden.new_zeros(len(hidden), 1), hidden], dim=1).logsumexp(1)
