"""The two kinds of adapters, and what their files share.

A file `few_shot_adapters/NAME.py` defines a class `Adapter`, constructed with `AdaptSettings`;
its objective is `NAME`.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import vmap

from oodml.adaptation.heads import Heads
from oodml.adaptation.settings import AdaptSettings
from oodml.adaptation.support import Support, SupportBatch
from oodml.losses._base import squared_distances
from oodml.miners.distance import Miner

Stack = Float[Tensor, "e b d"]
"""The embeddings of a batch of each episode."""
Features = Float[Tensor, "s f"]
Labels = Int[Tensor, " b"]
Betas = Float[Tensor, "e c"]
Losses = Float[Tensor, " e"]
Triplets = tuple[Int[Tensor, "e b 3"], Bool[Tensor, "e b"]]


class Adapter:
    closed_form: ClassVar[bool]

    def __init__(self, settings: AdaptSettings) -> None:
        self.settings = settings


class StepAdapter(Adapter):
    """An adapter that takes optimizer steps on a loss, for all episodes at once."""

    closed_form = False

    def losses(self, embeddings: Stack, labels: Labels, batch: SupportBatch, beta: Betas) -> Losses:
        """The loss of each episode's batch.

        `labels` are the same for every episode; `beta` is a learnable number per support class.
        """
        raise NotImplementedError


class TripletAdapter(StepAdapter):
    """A step adapter whose loss is computed from one mined triplet per image."""

    def losses(self, embeddings: Stack, labels: Labels, batch: SupportBatch, beta: Betas) -> Losses:
        """The loss of each episode's triplets."""
        device, (episodes, size, dim) = embeddings.device, embeddings.shape
        triplets, valid = mine_triplets(embeddings, labels, batch.uniform.to(device))
        # Rows of all episodes: the batched indexing of `vmap` has a three times slower gradient.
        first = torch.arange(episodes, device=device)[:, None, None] * size
        squared = squared_distances(embeddings.reshape(-1, dim), (triplets + first).view(-1, 3))
        positive, negative = (part.view(episodes, size) for part in squared)
        anchor_beta = beta.gather(1, batch.classes.to(device))
        return self.losses_of_squared(positive, negative, valid, anchor_beta)

    def losses_of_squared(
        self,
        positive: Float[Tensor, "e b"],
        negative: Float[Tensor, "e b"],
        valid: Bool[Tensor, "e b"],
        beta: Float[Tensor, "e b"],
    ) -> Losses:
        """The loss of each episode from squared distances, and the β of each anchor."""
        raise NotImplementedError


class ClosedFormAdapter(Adapter):
    """An adapter that computes the heads directly, without steps.

    It receives the test view of each support image: statistics of augmented views, such as class
    means, do not fit the test views of the queries. `scores_classes`: whether the embedding
    consists of one score per support class.
    """

    closed_form = True
    scores_classes: ClassVar[bool] = False

    def heads(self, head: Heads, features: Features, support: Sequence[Support]) -> Heads:
        """The head of each episode, from features of the support images of all episodes."""
        raise NotImplementedError


@torch.no_grad()
def mine_triplets(
    embeddings: Stack, labels: Int[Tensor, " b"], uniform: Float[Tensor, "e 2 b"]
) -> Triplets:
    """A random positive and a distance-weighted negative of each image, chosen by random numbers in
    [0, 1), and which are valid."""
    # With shared labels, `searchsorted` in the miner would copy its input and warn about it.
    triplets: Triplets = vmap(Miner().choose)(
        embeddings.detach(), labels.expand(len(embeddings), -1), uniform
    )
    return triplets
