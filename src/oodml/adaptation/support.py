"""The support images of an episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Support:
    """The labeled images of one episode.

    Attributes:
        members: [c k] the rows of each class's images; entries beyond its count are unused.
        counts: [c] the number of images of each class.
    """

    names: tuple[str, ...]
    members: Int[Tensor, "c k"]
    counts: Int[Tensor, " c"]


def support_of(members: Mapping[str, Sequence[int]]) -> Support:
    """The support images from the rows of each class."""
    counts = torch.tensor([len(rows) for rows in members.values()])
    table = torch.zeros(len(members), int(counts.max()), dtype=torch.long)
    for line, rows in zip(table, members.values(), strict=True):
        line[: len(rows)] = torch.tensor(rows)
    return Support(tuple(members), table, counts)


def class_means(embeddings: Float[Tensor, "s d"], support: Support) -> Float[Tensor, "c d"]:
    """The mean embedding of each support class."""
    present = torch.arange(support.members.shape[1]) < support.counts[:, None]
    weights = (present / support.counts[:, None]).to(embeddings)
    members = support.members.to(embeddings.device)
    return torch.einsum("ckd,ck->cd", embeddings[members], weights)
