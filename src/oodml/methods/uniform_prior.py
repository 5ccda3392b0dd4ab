"""Margin loss with features that are kept uniform by an adversary."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from oodml.methods import margin as margin_method
from oodml.methods._base import Batch, Space
from oodml.model import Embedder


class Method(margin_method.Method):
    """The margin method; a discriminator tells chunks of the pooled features from U(-1, 1).

    weight: of the backbone's term, which wants every chunk to be taken for uniform.
    every: steps between two steps of the discriminator. chunk: entries it sees at once; what
    is left over of the features is not looked at. hidden: its width. discriminator_lr: of its
    own Adam. margin, beta, beta_lr: as in margin.
    The paper's values for CUB, CARS, SOP: weight .2, .2, .02; every 10, 10, 200; SOP hidden 50.
    """

    modes: ClassVar[dict[str, str]] = {
        "finetune": "",
        "head": "it shapes the features of the backbone, which stay as they are in head mode",
    }

    def __init__(
        self,
        space: Space,
        weight: float = 0.2,
        every: int = 10,
        chunk: int = 128,
        hidden: int = 100,
        discriminator_lr: float = 1e-5,
        margin: float = 0.2,
        beta: float = 1.2,
        beta_lr: float = 5e-4,
    ) -> None:
        super().__init__(space, margin, beta, beta_lr)
        self.weight = weight
        self.every = every
        self.chunk = min(chunk, space.feature_dim)
        self.discriminator = nn.Sequential(
            nn.Linear(self.chunk, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=discriminator_lr, betas=(0.5, 0.999)
        )

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        # Its own step learns the discriminator; here its parameters are given.
        self.discriminator.requires_grad_(False)
        term = judged(self.discriminator(self.chunks(batch.features)), uniform=True)
        return super().terms(batch) | {"uniform_prior": self.weight * term}

    def after_step(self, batch: Batch, model: Embedder) -> None:
        if batch.step % self.every:
            return
        features = self.chunks(batch.features.detach())
        noise = torch.rand(features.shape, generator=batch.generator).to(features.device)
        self.discriminator.requires_grad_(True)
        loss = judged(self.discriminator(features), uniform=False)
        loss = loss + judged(self.discriminator(2 * noise - 1), uniform=True)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def chunks(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "m c"]:
        """The features in pieces of the discriminator's size."""
        whole = features.shape[1] // self.chunk * self.chunk
        return features[:, :whole].reshape(-1, self.chunk).float()


def judged(logits: Float[Tensor, "m 1"], uniform: bool) -> Float[Tensor, ""]:
    """Binary cross-entropy of the discriminator's verdicts."""
    return functional.binary_cross_entropy_with_logits(
        logits, torch.full_like(logits, float(uniform))
    )
