"""The one training loop, for every method, on cached features or on images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError, unknown
from oodml.methods._base import BaseMethod, Batch
from oodml.model import Embedder
from oodml.randomness import derived_seed, generator
from oodml.sampler import ClassBalanced
from oodml.training.settings import TrainSettings
from oodml.training.sources import Source, Views

Rows = NDArray[np.int64]
Metrics = dict[str, float]


@dataclass(frozen=True)
class History:
    """What happened: a row an epoch (loss terms, validation metrics), and the epoch kept."""

    rows: list[dict[str, float]]
    epoch: int
    validation: Metrics


def train(
    model: Embedder,
    method: BaseMethod,
    source: Source,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    validate: Callable[[], Metrics] | None = None,
) -> History:
    """Train `model` in place by `method` and leave it at the epoch that validates best.

    validate: metrics of the model on validation classes; without it the last epoch is kept.
    Raises OodmlError if a loss is not finite, naming the method, step, term and classes.
    """
    model.to(device)
    method.to(device)
    method.prepare(model)
    optimizer = _optimizer(model, method, settings)
    sampler = ClassBalanced(source.labels, settings.batch_size, settings.per_class)
    steps = _Steps(model, method, optimizer, settings, generator(seed, "mining"), device)
    best = _Best(settings.select)
    rows: list[dict[str, float]] = []
    for epoch in range(1, settings.epochs + 1):
        model.train()
        method.train()
        if not steps.frozen:
            model.backbone.requires_grad_(epoch > settings.warmup_epochs)
        order = sampler.epoch(np.random.Generator(np.random.PCG64(derived_seed(seed, epoch))))
        views = source.batches(order, derived_seed(seed, "views", epoch), method.n_views)
        row = {"epoch": float(epoch)} | steps.epoch(views, source.labels)
        looks = validate is not None and (
            epoch % settings.evaluate_every == 0 or epoch == settings.epochs
        )
        if looks and validate is not None:
            metrics = validate()
            row |= {f"validation_{name}": value for name, value in metrics.items()}
            best.offer(epoch, metrics, model)
        rows.append(row)
    best.restore(model)
    return History(rows, best.epoch or settings.epochs, best.metrics)


class _Steps:
    """Runs the steps of an epoch and watches that the loss stays finite."""

    def __init__(
        self,
        model: Embedder,
        method: BaseMethod,
        optimizer: torch.optim.Optimizer,
        settings: TrainSettings,
        random: torch.Generator,
        device: torch.device,
    ) -> None:
        self.model, self.method, self.optimizer = model, method, optimizer
        self.random, self.device = random, device
        self.frozen = model.settings.mode == "head"
        self.autocast = settings.precision == "bf16"
        self.step = 0
        # Looking at a value waits for the GPU; there it is done for several steps at once.
        self.look_every = 1 if device.type == "cpu" else 20

    def epoch(self, views: Iterator[Views], labels: Rows) -> dict[str, float]:
        """One pass; returns the mean of each loss term."""
        sums: dict[str, Tensor] = {}
        pending: list[tuple[int, Rows, dict[str, Tensor]]] = []
        count = 0
        for view in views:
            terms = self._step(view, torch.from_numpy(labels[view.rows]))
            pending.append((self.step, labels[view.rows], terms))
            if len(pending) >= self.look_every:
                self._look(pending)
            for name, value in terms.items():
                sums[name] = sums[name] + value if name in sums else value
            count += 1
            self.step += 1
        self._look(pending)
        return {name: float(value) / count for name, value in sums.items()}

    def _step(self, view: Views, labels: Tensor) -> dict[str, Tensor]:
        batch = self._batch(view, labels)
        terms = self.method.terms(batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.method.after_step(batch, self.model)
        return {name: value.detach() for name, value in terms.items()}

    def _batch(self, view: Views, labels: Tensor) -> Batch:
        images = [part.to(self.device, non_blocking=True) for part in view.images]
        if self.frozen:
            features = [part.to(self.device) for part in view.features]
        else:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                features = [self.model.features(images[0])]
        first = features[0].float()
        return Batch(
            features=first,
            heads=self.model.head(first),
            labels=labels.to(self.device),
            step=self.step,
            generator=self.random,
            images=images[0] if images else None,
            second_features=features[1] if len(features) > 1 else None,
            second_images=images[1] if len(images) > 1 else None,
        )

    def _look(self, pending: list[tuple[int, Rows, dict[str, Tensor]]]) -> None:
        for step, labels, terms in pending:
            for name, value in terms.items():
                if not bool(torch.isfinite(value)):
                    classes = ", ".join(map(str, np.unique(labels)[:8]))
                    raise OodmlError(
                        f"the loss term {name!r} is {float(value)} at step {step} "
                        f"(classes {classes} …). Lower lr, or look at these images."
                    )
        pending.clear()


class _Best:
    """The best epoch so far and a copy of its weights."""

    def __init__(self, select: str) -> None:
        self.select = select.split("+")
        self.value = -np.inf
        self.epoch = 0
        self.metrics: Metrics = {}
        self.state: dict[str, Any] = {}

    def offer(self, epoch: int, metrics: Metrics, model: Embedder) -> None:
        missing = [name for name in self.select if name not in metrics]
        if missing:
            raise unknown("metric", missing[0], metrics, "train.select")
        value = sum(metrics[name] for name in self.select)
        if value > self.value:
            self.value, self.epoch, self.metrics = value, epoch, metrics
            kept = model.head if model.settings.mode == "head" else model
            self.state = {key: tensor.clone() for key, tensor in kept.state_dict().items()}

    def restore(self, model: Embedder) -> None:
        if self.state:
            kept = model.head if model.settings.mode == "head" else model
            kept.load_state_dict(self.state)


def _optimizer(
    model: Embedder, method: BaseMethod, settings: TrainSettings
) -> torch.optim.Optimizer:
    head_mode = model.settings.mode == "head"
    lr = settings.lr or (1e-3 if head_mode else 1e-5)
    head_lr = settings.head_lr or lr
    decay = settings.weight_decay
    groups = [{"params": list(model.head.parameters()), "lr": head_lr, "weight_decay": decay}]
    if not head_mode:
        backbone = list(model.backbone.parameters())
        groups.append({"params": backbone, "lr": lr, "weight_decay": decay})
    groups += method.parameter_groups(lr)
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)
