"""DiVA: four heads with tasks of their own, kept apart (Milbich et al. 2020, 2004.13458)."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from oodml.errors import OodmlError
from oodml.losses.adversarial_separation import Loss as Separation
from oodml.losses.fast_moco import Loss as FastMoco
from oodml.methods._base import BaseMethod, Batch, Space
from oodml.methods._mined import MinedLoss, groups_of
from oodml.model import Embedder

PARTS = ("discriminative", "shared", "intra", "selfsimilarity")
MINERS = {"discriminative": "distance", "shared": "shared_neg_distance", "intra": "intra_random"}


class Head(nn.Module):
    """One linear layer whose output is four parts of length one, and their weighted sequence.

    part_weights: of discriminative, shared, intra, selfsimilarity in the embedding.
    """

    normalize = True

    def __init__(self, features: int, dim: int, part_weights: Sequence[float]) -> None:
        super().__init__()
        self.linear = nn.Linear(features, dim)
        self.part_weights = tuple(part_weights)

    def forward(self, features: Float[Tensor, "n f"]) -> dict[str, Float[Tensor, "n _"]]:
        """The parts by name, and the embedding."""
        outputs = self.linear(features).chunk(len(PARTS), dim=1)
        parts = [functional.normalize(output, dim=1) for output in outputs]
        weighted = [w * part for w, part in zip(self.part_weights, parts, strict=True)]
        embedding = functional.normalize(torch.cat(weighted, 1), dim=1)
        return dict(zip(PARTS, parts, strict=True)) | {"embedding": embedding}

    def embed(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        """The embedding."""
        return self(features)["embedding"]  # type: ignore[no-any-return]

    @property
    def options(self) -> dict[str, object]:
        """What the head is made from."""
        sizes = {"features": self.linear.in_features, "dim": self.linear.out_features}
        return {**sizes, "part_weights": list(self.part_weights)}


class Method(BaseMethod):
    """Discriminative, class-shared, intra-class and sample-specific features, side by side.

    The objective is the discriminative margin loss + alpha · (margin loss of triplets across
    three classes, margin loss of triplets within a class, fast MoCo of two views) + the
    adversarial separation of the last three heads from the first, of weight `separation`.

    part_weights: of discriminative, shared, intra and selfsimilarity in the embedding.
    margin, beta, beta_lr: of each margin loss. momentum, temperature, queue_batches: of fast
    MoCo. hidden, separation_lr: of the networks that the separation learns. published: the
    shared head learns from permuted labels, and fast MoCo weighs, as in the original.
    The paper's values for CUB, CARS, SOP: separation 1500, 100, 150; alpha .3, .15, .2;
    queue_batches 30, 30, 70; batches of 108; dim 512.
    """

    n_views: ClassVar[int] = 2

    def __init__(
        self,
        space: Space,
        alpha: float = 0.3,
        separation: float = 1500.0,
        part_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        margin: float = 0.2,
        beta: float = 1.2,
        beta_lr: float = 5e-4,
        momentum: float = 0.9,
        temperature: float = 0.01,
        queue_batches: int = 30,
        hidden: int = 512,
        separation_lr: float = 1e-5,
        published: bool = False,
    ) -> None:
        super().__init__(space)
        if space.dim % len(PARTS):
            raise OodmlError(f"diva: dim {space.dim} has no four equal parts; take a multiple of 4")
        if len(part_weights) != len(PARTS):
            raise OodmlError(f"diva: part_weights {list(part_weights)} are not four numbers")
        self.alpha, self.momentum, self.queue_batches = alpha, momentum, queue_batches
        self.part_weights = tuple(part_weights)
        part = space.dim // len(PARTS)
        options = {"margin": margin, "beta": beta, "beta_lr": beta_lr}
        miners = MINERS | ({"shared": "random_distance"} if published else {})
        permuted = {"shared": {"permute_labels": True}} if published else {}
        self.margins = nn.ModuleDict(
            {
                name: MinedLoss(space.n_classes, part, "margin", miner, options, permuted.get(name))
                for name, miner in miners.items()
            }
        )
        self.contrast = FastMoco(temperature, published=published)
        self.separation = Separation(
            dict.fromkeys(PARTS, part),
            [(name, PARTS[0]) for name in PARTS[1:]],
            separation,
            hidden,
            separation_lr,
        )
        self.teacher: Any = None
        self.queue: list[Tensor] = []

    def head(self) -> nn.Module:
        return Head(self.space.feature_dim, self.space.dim, self.part_weights)

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        found = {}
        for name, loss in self.margins.items():
            value = loss(batch.heads[name], batch.labels, batch.generator)
            found[name] = value if name == PARTS[0] else self.alpha * value
        queue = torch.cat(self.queue) if self.queue else batch.heads[PARTS[3]].detach()[:0]
        self.keys = self.encoded(batch)
        contrast = self.contrast(batch.heads[PARTS[3]], self.keys, queue)
        found[PARTS[3]] = self.alpha * contrast
        found["separation"] = self.separation({name: batch.heads[name] for name in PARTS})
        return found

    def prepare(self, model: Embedder) -> None:
        """Copy what embeds the second view: the model, or on cached features its head."""
        self.teacher = copy.deepcopy(model.trained).requires_grad_(False)
        self.queue = []

    @torch.no_grad()
    def encoded(self, batch: Batch) -> Float[Tensor, "n d"]:
        """The selfsimilarity head of the momentum copy, on the second view."""
        if batch.second_features is not None:
            return self.teacher(batch.second_features)[PARTS[3]]  # type: ignore[no-any-return]
        assert batch.second_images is not None
        features = batch.encode(self.teacher, batch.second_images)
        return self.teacher.head(features)[PARTS[3]]  # type: ignore[no-any-return]

    @torch.no_grad()
    def after_step(self, batch: Batch, model: Embedder) -> None:
        """Move the copy towards the model; the keys of the batch join the queue."""
        current: list[Tensor] = list(model.trained.parameters())
        torch._foreach_lerp_(list(self.teacher.parameters()), current, 1 - self.momentum)
        self.queue = [*self.queue, self.keys][-self.queue_batches :]

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        own = groups_of(self.margins.values(), lr)
        return own + self.separation.parameter_groups(lr)
