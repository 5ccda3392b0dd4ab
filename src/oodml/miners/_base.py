"""What every miner shares: its signature, and drawing rows by weight."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


class BaseMiner:
    """Chooses triplets of rows (anchor, positive, negative) from a batch."""

    relation: ClassVar[str] = "ordinary"
    """How a triplet's labels stand to each other: positive as the anchor and negative not;
    "within" a class; "across" three; "ordinary or apart", where the positive may be the anchor."""

    def __call__(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Int[Tensor, "t 3"]:
        """The triplets found; none for an anchor that has no positive or no negative."""
        triplets, valid = self.masked(embeddings, labels, generator)
        return triplets[valid]

    def masked(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        """The same with a fixed number of rows, and which of them are triplets.

        It needs no copy to the host: pass both to a loss as `triplets` and `valid`.
        """
        uniform = torch.rand(
            (self.draws, len(labels)), generator=generator, device=generator.device
        ).to(labels.device)
        embeddings = embeddings.detach()
        if embeddings.dtype in (torch.float16, torch.bfloat16):
            embeddings = embeddings.float()
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.choose(embeddings, labels, uniform)

    draws = 2
    """How many numbers `choose` needs for each row."""

    def choose(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        uniform: Float[Tensor, "k n"],
    ) -> tuple[Int[Tensor, "t 3"], Bool[Tensor, " t"]]:
        """Triplets and which are valid, a pure function of numbers drawn from U[0, 1).

        No shape depends on the data: it runs under `torch.func.vmap`.
        """
        raise NotImplementedError


def positives_of(labels: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Which other rows share an anchor's label; rows are anchors."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (labels[:, None] == labels) & ~itself


def negatives_of(labels: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Which rows have another label than an anchor; rows are anchors."""
    return labels[:, None] != labels


def draw(weights: Float[Tensor, "n m"], uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """One column a row, as often as its weight (>= 0) says; arbitrary where all are 0."""
    cumulative = weights.cumsum(1)
    # Kept below 1, so that rounding cannot reach the columns after the last weight.
    threshold = uniform.to(weights.dtype) * (1 - 1e-6) * cumulative[:, -1]
    chosen = torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]
    return chosen.clamp(max=weights.shape[1] - 1)


def draw_from(mask: Bool[Tensor, "n m"], uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """One column a row, uniformly from those in the mask; arbitrary where it is empty."""
    return draw(mask.to(torch.float32), uniform)


def prefer(choice: Bool[Tensor, "n m"], otherwise: Bool[Tensor, "n m"]) -> Bool[Tensor, "n m"]:
    """The choice in each row that has one, else the row of `otherwise`."""
    return torch.where(choice.any(1, keepdim=True), choice, otherwise)


def distances(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Euclidean distances between all rows."""
    products = embeddings @ embeddings.T
    norms = products.diagonal()
    return (norms[:, None] + norms - 2 * products).clamp(min=0).sqrt()


def unit_distances(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Euclidean distances between all rows, each scaled to length 1."""
    unit = functional.normalize(embeddings, dim=1)
    return (2 - 2 * unit @ unit.T).clamp(min=0).sqrt()


def triplets_of_each(
    positive: Int[Tensor, " n"], negative: Int[Tensor, " n"]
) -> Int[Tensor, "n 3"]:
    """One triplet a row, each row an anchor."""
    return torch.stack([torch.arange(len(positive), device=positive.device), positive, negative], 1)
