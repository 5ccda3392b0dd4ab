"""S2SD: distillation from higher-dimensional heads (Roth et al. 2021, arXiv 2009.08348)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from oodml.losses.s2sd import Loss as Distillation
from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.methods._mined import MinedLoss, groups_of


class Method(BaseMethod):
    """Target heads learn beside the embedding, which learns their similarities, too.

    The objective is half the embedding's loss + half the targets' mean loss + weight · mean
    distillation from the targets + feature_weight · distillation from the pooled features, the
    last from step `feature_start` on. Pooling "avg+max" of the model is part of the paper's.

    dims: of the target heads, each Linear, ReLU, Linear, length one. temperature: of both
    distillations. loss, miner: of the embedding and, apart, of each target; loss_options,
    miner_options: theirs, over the defaults beta .6, beta_lr 1e-5 and probability .4.
    The paper's values for CUB, CARS, SOP: weight and feature_weight 50, 50, 5; feature_start
    0, 0, 1000; miner probability .4, .3, and miner "distance"; beta .6, .6, .9.
    """

    def __init__(
        self,
        sizes: Sizes,
        weight: float = 50.0,
        feature_weight: float = 50.0,
        feature_start: int = 0,
        dims: Sequence[int] = (1024, 1536, 2048),
        temperature: float = 1.0,
        loss: str = "margin",
        miner: str | None = "rho_distance",
        loss_options: dict[str, Any] | None = None,
        miner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sizes)
        self.weight = weight
        self.feature_weight = feature_weight
        self.feature_start = feature_start
        if loss == "margin":
            loss_options = {"beta": 0.6, "beta_lr": 1e-5} | (loss_options or {})
        if miner == "rho_distance":
            miner_options = {"probability": 0.4} | (miner_options or {})
        self.targets = nn.ModuleList(target_head(sizes.feature_dim, size) for size in dims)
        self.losses = nn.ModuleList(
            MinedLoss(sizes.n_classes, size, loss, miner, loss_options, miner_options)
            for size in (sizes.dim, *dims)
        )
        self.distillation = Distillation(temperature)

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        heads = [batch.embeddings]
        heads += [functional.normalize(target(batch.features), dim=1) for target in self.targets]
        own, *others = (
            loss(head, batch.labels, batch.generator)
            for loss, head in zip(self.losses, heads, strict=True)
        )
        learnt = [self.distillation(batch.embeddings, head) for head in heads[1:]]
        found = {
            "embedding": own / 2,
            "targets": torch.stack(others).mean() / 2,
            "distillation": self.weight * torch.stack(learnt).mean(),
        }
        if self.feature_weight:
            started = float(batch.step >= self.feature_start)
            term = self.distillation(batch.embeddings, batch.features)
            found["feature_distillation"] = started * self.feature_weight * term
        return found

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        own = [{"params": list(self.targets.parameters()), "lr": lr, "weight_decay": 0.0}]
        return own + groups_of(self.losses, lr)


def target_head(features: int, dim: int) -> nn.Module:
    """A head of two layers, before its output is scaled to length one."""
    return nn.Sequential(nn.Linear(features, dim), nn.ReLU(), nn.Linear(dim, dim))
