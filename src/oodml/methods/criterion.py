"""Any loss, with any miner if it takes triplets, or a sum of several."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from oodml.errors import OodmlError, error_at, unknown
from oodml.losses._base import to_ball
from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.methods._mined import CrossBatchMemory, Matryoshka, MinedLoss, groups_of
from oodml.shapes import Scalar, Vectors

SPACES = ("euclidean", "poincare")
TERM_KEYS = ("loss", "miner", "loss_options", "miner_options", "dims", "memory", "memory_start",
             "weight")  # fmt: skip


class PoincareHead(nn.Module):
    """One linear layer whose embeddings are compared by hyperbolic distance.

    Losses receive the output of the layer, shortened to the length `clip`. For evaluation it is
    mapped into the Poincaré ball, which is scaled to radius 1; this changes no ranking.
    """

    distance = "poincare"
    normalize = False

    def __init__(self, features: int, dim: int, curvature: float = 0.1, clip: float = 2.3) -> None:
        super().__init__()
        self.linear = nn.Linear(features, dim)
        self.options = {"features": features, "dim": dim, "curvature": curvature, "clip": clip}

    def forward(self, features: Float[Tensor, "n f"]) -> dict[str, Vectors]:
        output, clip = self.linear(features), self.options["clip"]
        longer = output.norm(dim=1, keepdim=True) > clip
        return {"embedding": torch.where(longer, normalize(output, dim=1) * clip, output)}

    def embed(self, features: Float[Tensor, "n f"]) -> Vectors:
        curvature, clip = self.options["curvature"], self.options["clip"]
        return math.sqrt(curvature) * to_ball(self.linear(features), curvature, clip)


class Method(BaseMethod):
    """One loss on the embeddings, computed on the triplets of a miner if one is named.

    Args:
        loss, miner: names, `pml.NAME` of pytorch-metric-learning, or import paths; None for no
            miner.
        loss_options, miner_options: their options.
        losses: further losses, tables with the keys `loss`, `miner`, `loss_options`,
            `miner_options`, `dims`, `memory`, `memory_start`, and `weight`. Each term is logged.
        dims: average the loss over prefixes of the embedding with these lengths (Matryoshka).
        memory, memory_start: number of embeddings of earlier batches that the loss also sees
            (XBM), and of steps before they are used.
        space: "euclidean", or "poincare" for a head whose embeddings are evaluated by hyperbolic
            distance, for losses such as hyp and hier.
        curvature, clip: the Poincaré ball has the curvature -curvature, and longer outputs of the
            head are shortened to the length `clip`.
    """

    def __init__(
        self,
        sizes: Sizes,
        loss: str | None = None,
        miner: str | None = None,
        loss_options: dict[str, Any] | None = None,
        miner_options: dict[str, Any] | None = None,
        losses: Sequence[Mapping[str, Any]] = (),
        dims: Sequence[int] = (),
        memory: int = 0,
        memory_start: int = 0,
        space: str = "euclidean",
        curvature: float = 0.1,
        clip: float = 2.3,
    ) -> None:
        super().__init__(sizes)
        if space not in SPACES:
            raise unknown("space", space, SPACES, "method criterion")
        self.space, self.curvature, self.clip = space, curvature, clip
        if not loss and not losses:
            problem, allowed = "give a `loss`, or a list of `losses`", ("loss", "losses")
            raise OodmlError(problem, "loss", allowed=allowed)
        values = loss, miner, loss_options, miner_options, dims, memory, memory_start
        tables = [*([dict(zip(TERM_KEYS, values, strict=False))] if loss else []), *losses]
        self.mined = nn.ModuleList(_build(sizes, table) for table in tables)
        self.weights = [float(table.get("weight", 1.0)) for table in tables]
        names = [str(table["loss"]) for table in tables]
        repeats = [names[:i].count(name) for i, name in enumerate(names)]
        self.names = [f"{n} {i + 1}" if i else n for n, i in zip(names, repeats, strict=True)]
        if any(getattr(part, "rotates", False) for part in self.mined.modules()):
            self.rotates = True
            reason = "its loss rotates images, which cached features do not allow"
            self.modes = {"finetune": "", "head": reason}  # type: ignore[misc]

    def head(self) -> nn.Module | None:
        if self.space == "euclidean":
            return None
        return PoincareHead(self.sizes.feature_dim, self.sizes.dim, self.curvature, self.clip)

    def terms(self, batch: Batch) -> dict[str, Scalar]:
        return {
            name: weight * mined(batch.embeddings, batch.labels, batch.generator)
            for name, weight, mined in zip(self.names, self.weights, self.mined, strict=True)
        }

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return groups_of(self.mined, lr)


def _build(sizes: Sizes, table: Mapping[str, Any]) -> nn.Module:
    for key in table:
        if key not in TERM_KEYS:
            raise unknown("key", key, TERM_KEYS, "losses")
    if not table.get("loss"):
        raise error_at("losses", "an entry has no `loss`", dict(table))
    dims, size = table.get("dims") or (), int(table.get("memory", 0))
    for dim in dims:
        if not 1 <= dim <= sizes.dim:
            raise error_at("dims", f"{dim} is not from 1 to model.dim, {sizes.dim}", dim)
    options: dict[str, Any] = {key: table.get(key) for key in TERM_KEYS[:4]}
    options["class_names"] = sizes.class_names
    made = [MinedLoss(sizes.n_classes, dim, **options) for dim in dims or (sizes.dim,)]
    loss = Matryoshka(made, dims) if dims else made[0]
    return CrossBatchMemory(loss, size, int(table.get("memory_start", 0))) if size else loss
