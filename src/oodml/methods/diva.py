"""DiVA: four separated heads with different tasks (Milbich et al. 2020, arXiv 2004.13458)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from oodml.errors import OodmlError
from oodml.losses.adversarial_separation import Loss as Separation
from oodml.losses.fast_moco import Loss as FastMoco
from oodml.methods._base import Batch, MomentumMethod, Sizes
from oodml.methods._mined import MinedLoss, groups_of

PARTS = ("discriminative", "shared", "intra", "selfsimilarity")
MINERS = {"discriminative": "distance", "shared": "shared_neg_distance", "intra": "intra_random"}


class Head(nn.Module):
    """One linear layer whose output is split into four parts of unit length.

    The embedding is the concatenation of the parts times `part_weights`, scaled to unit length.
    """

    normalize = True

    def __init__(self, features: int, dim: int, part_weights: Sequence[float]) -> None:
        super().__init__()
        self.linear, self.part_weights = nn.Linear(features, dim), tuple(part_weights)
        sizes = {"features": features, "dim": dim}
        self.options = {**sizes, "part_weights": list(part_weights)}

    def forward(self, features: Float[Tensor, "n f"]) -> dict[str, Float[Tensor, "n _"]]:
        """The parts by name, and the embedding."""
        outputs = self.linear(features).chunk(len(PARTS), dim=1)
        parts = [normalize(output, dim=1) for output in outputs]
        weighted = [w * part for w, part in zip(self.part_weights, parts, strict=True)]
        embedding = normalize(torch.cat(weighted, 1), dim=1)
        return dict(zip(PARTS, parts, strict=True)) | {"embedding": embedding}

    def embed(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        return self(features)["embedding"]  # type: ignore[no-any-return]


class Method(MomentumMethod):
    """Learns discriminative, class-shared, intra-class, and sample-specific features together.

    The objective is the discriminative margin loss + alpha · (margin loss on triplets across
    three classes + margin loss on triplets within a class + fast MoCo on two views) + an
    adversarial separation of the last three heads from the first.

    Values of the paper for CUB, CARS, SOP: separation 1500, 100, 150; alpha .3, .15, .2;
    queue_batches 30, 30, 70; batch size 108; dim 512, which must be a multiple of four.

    Args:
        alpha, separation: weights of the three auxiliary terms, and of the adversarial separation.
        part_weights: of the discriminative, shared, intra, and selfsimilarity parts.
        margin, beta, beta_lr: of each margin loss; see the method margin.
        momentum, queue_batches: of the model copy that encodes the second view, and the length of
            the queue of fast MoCo; temperature: of fast MoCo.
        hidden, separation_lr: width and learning rate of the separation networks.
        published: reproduce the original code: the shared head learns from permuted labels, and
            fast MoCo uses its weights.
    """

    key_output: ClassVar[str] = PARTS[3]

    def __init__(
        self,
        sizes: Sizes,
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
        super().__init__(sizes, momentum, queue_batches)
        if sizes.dim % len(PARTS):
            problem = f"diva: model.dim = {sizes.dim} is not a multiple of 4"
            raise OodmlError(problem, "model.dim", sizes.dim)
        if len(part_weights) != len(PARTS):
            problem = f"diva: part_weights needs {len(PARTS)} numbers, one per part"
            given = list(part_weights)
            raise OodmlError(f"{problem}; {given} was given", "part_weights", given)
        self.alpha, self.part_weights = alpha, tuple(part_weights)
        part = sizes.dim // len(PARTS)
        options = {"margin": margin, "beta": beta, "beta_lr": beta_lr}
        miners = MINERS | ({"shared": "random_distance"} if published else {})
        permuted = {"shared": {"permute_labels": True}} if published else {}
        self.margins = nn.ModuleDict()
        for name, miner in miners.items():
            mined = (sizes.n_classes, part, "margin", miner, options, permuted.get(name))
            self.margins[name] = MinedLoss(*mined)
        self.contrast = FastMoco(temperature, published=published)
        pairs = [(name, PARTS[0]) for name in PARTS[1:]]
        widths = dict.fromkeys(PARTS, part)
        self.separation = Separation(widths, pairs, separation, hidden, separation_lr)

    def head(self) -> nn.Module:
        return Head(self.sizes.feature_dim, self.sizes.dim, self.part_weights)

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        losses = {}
        for name, loss in self.margins.items():
            value = loss(batch.outputs[name], batch.labels, batch.generator)
            losses[name] = value if name == PARTS[0] else self.alpha * value
        keys, queue = self.encode_keys(batch), self.queued_keys(batch)
        losses[PARTS[3]] = self.alpha * self.contrast(batch.outputs[PARTS[3]], keys, queue)
        losses["separation"] = self.separation({name: batch.outputs[name] for name in PARTS})
        return losses

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return groups_of(self.margins, lr) + self.separation.parameter_groups(lr)
