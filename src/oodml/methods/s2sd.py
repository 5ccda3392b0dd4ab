"""S2SD: similarity distillation from larger heads (Roth et al. 2021, arXiv 2009.08348)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from oodml.losses.s2sd import Loss as Distillation
from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.methods._mined import MinedLoss, groups_of


class Method(BaseMethod):
    """Trains larger target heads next to the embedding and distills their similarities into it.

    The objective is half the embedding's loss + half the mean loss of the target heads + weight ·
    mean distillation from the target heads + feature_weight · distillation from the pooled
    features, which starts at step `feature_start`.

    Values of the paper for CUB, CARS, SOP: weight and feature_weight 50, 50, 5; feature_start
    0, 0, 1000; miner probability .4, .3, and miner "distance"; beta .6, .6, .9; the model uses
    pooling "avg+max".

    Args:
        dims: dimensions of the target heads (Linear, ReLU, Linear, unit length).
        temperature: temperature of both distillations.
        loss, miner: loss of the embedding and of each target head, and its miner.
        loss_options, miner_options: their options; for margin and rho_distance they override beta
            .6, beta_lr 1e-5, and probability .4.
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
        self.weight, self.feature_weight, self.feature_start = weight, feature_weight, feature_start
        if loss == "margin":
            loss_options = {"beta": 0.6, "beta_lr": 1e-5} | (loss_options or {})
        if miner == "rho_distance":
            miner_options = {"probability": 0.4} | (miner_options or {})
        self.targets = nn.ModuleList(
            nn.Sequential(nn.Linear(sizes.feature_dim, size), nn.ReLU(), nn.Linear(size, size))
            for size in dims
        )
        self.losses = nn.ModuleList(
            MinedLoss(sizes.n_classes, size, loss, miner, loss_options, miner_options)
            for size in (sizes.dim, *dims)
        )
        self.distillation = Distillation(temperature)

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        targets = [normalize(target(batch.features), dim=1) for target in self.targets]
        outputs = [batch.embeddings, *targets]
        embedding_loss, *target_losses = (
            loss(output, batch.labels, batch.generator)
            for loss, output in zip(self.losses, outputs, strict=True)
        )
        distilled = [self.distillation(batch.embeddings, output) for output in targets]
        losses = {
            "embedding": embedding_loss / 2,
            "targets": torch.stack(target_losses).mean() / 2,
            "distillation": self.weight * torch.stack(distilled).mean(),
        }
        if self.feature_weight:
            started = float(batch.step >= self.feature_start)
            term = self.distillation(batch.embeddings, batch.features)
            losses["feature_distillation"] = started * self.feature_weight * term
        return losses

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        targets = {"params": list(self.targets.parameters()), "lr": lr, "weight_decay": 0.0}
        return [targets, *groups_of(self.losses, lr)]
