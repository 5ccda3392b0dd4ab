"""Margin loss whose features an adversary keeps uniformly distributed."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import Linear, ReLU
from torch.nn.functional import binary_cross_entropy_with_logits

from oodml.methods import margin as margin_method
from oodml.methods._base import Batch, Sizes
from oodml.model import Embedder


class Method(margin_method.Method):
    """The margin method with a discriminator that separates feature chunks from U(-1, 1) noise.

    The backbone is trained to make the discriminator take each chunk for uniform noise.
    Values of the paper for CUB, CARS, SOP: weight .2, .2, .02; every 10, 10, 200; SOP hidden 50.

    Args:
        weight, every: of the adversarial term, and steps between two discriminator steps.
        chunk: number of feature entries in a chunk; a remainder shorter than a chunk is ignored.
        hidden, discriminator_lr: width of the discriminator, and learning rate of its Adam.
        margin, beta, beta_lr: of the margin loss; see the method margin.
    """

    modes: ClassVar[dict[str, str]] = {"finetune": "", "head": "it trains the backbone's features"}

    def __init__(
        self,
        sizes: Sizes,
        weight: float = 0.2,
        every: int = 10,
        chunk: int = 128,
        hidden: int = 100,
        discriminator_lr: float = 1e-5,
        margin: float = 0.2,
        beta: float = 1.2,
        beta_lr: float = 5e-4,
    ) -> None:
        super().__init__(sizes, margin, beta, beta_lr)
        self.weight, self.every = weight, every
        self.chunk = min(chunk, sizes.feature_dim)
        inner = Linear(self.chunk, hidden), ReLU(), Linear(hidden, hidden), ReLU()
        self.discriminator = nn.Sequential(*inner, Linear(hidden, 1))
        own = self.discriminator.parameters()
        self.optimizer = torch.optim.Adam(own, lr=discriminator_lr, betas=(0.5, 0.999))

    def get_extra_state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        # The discriminator is trained in after_step; here its parameters are constants.
        self.discriminator.requires_grad_(False)
        term = discriminator_loss(self.discriminator(self.chunks(batch.features)), uniform=True)
        return super().terms(batch) | {"uniform_prior": self.weight * term}

    def after_step(self, batch: Batch, model: Embedder) -> None:
        if batch.step % self.every:
            return
        features = self.chunks(batch.features.detach())
        noise = torch.rand(features.shape, generator=batch.generator).to(features.device)
        self.discriminator.requires_grad_(True)
        loss = discriminator_loss(self.discriminator(features), uniform=False)
        loss = loss + discriminator_loss(self.discriminator(2 * noise - 1), uniform=True)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def chunks(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "m c"]:
        """The features split into chunks of the discriminator's input size."""
        whole = features.shape[1] // self.chunk * self.chunk
        return features[:, :whole].reshape(-1, self.chunk).float()


def discriminator_loss(logits: Float[Tensor, "m 1"], uniform: bool) -> Float[Tensor, ""]:
    """Binary cross-entropy of discriminator logits with the target "uniform" or "not uniform"."""
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(uniform)))
