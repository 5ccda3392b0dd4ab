"""The training steps of an epoch."""

import math
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from oodml import distributed
from oodml.errors import OodmlError
from oodml.losses._base import full_precision
from oodml.losses.image_rotation import rotate
from oodml.methods._base import BaseMethod, Batch
from oodml.model import Embedder
from oodml.training.settings import TrainSettings
from oodml.training.sources import BatchSource, Views
from oodml.training.tuning import MovingAverage, Retention, Tuning

Rows = NDArray[np.int64]
Terms = dict[str, Tensor]


class NonFiniteError(OodmlError):
    """A loss term or a weight is not finite; `labels` are the classes of the batch, if known.

    `epoch` is the number of finished epochs of the weights that are left in the model.
    """

    def __init__(self, problem: str, epoch: int, advice: str, labels: Sequence[int] = ()) -> None:
        self.problem, self.epoch, self.advice, self.labels = problem, epoch - 1, advice, labels
        super().__init__(self.describe(labels))

    def describe(self, classes: Sequence[object]) -> str:
        listed = ", ".join(map(str, classes[:8])) + (" …" if len(classes) > 8 else "")
        return f"{self.problem}{f' (classes {listed})' if listed else ''}. {self.advice}"


class Trainer:
    """Runs training steps, and checks that losses and weights stay finite."""

    def __init__(
        self,
        model: Embedder,
        method: BaseMethod,
        settings: TrainSettings,
        random: torch.Generator,
        device: torch.device,
        tuning: Tuning,
        retention: Retention | None = None,
    ) -> None:
        self.model, self.method, self.tuning = model, method, tuning
        self.optimizer = _make_optimizer(model, method, settings, tuning)
        self.retention, self.chunk_size = retention, settings.chunk_size
        self.trained = [*tuning.parameters, *model.head.parameters()]
        self.average = MovingAverage(self.trained, settings.ema) if settings.ema else None
        self.seconds, self.timed_steps = 0.0, 0
        self.random, self.device = random, device
        self.autocast = settings.precision == "bf16"
        self.step = 0
        # Reading a value waits for the GPU, so there several steps are checked together.
        self.check_every = 1 if device.type == "cpu" else 20

    def train_epoch(
        self, epoch: int, source: BatchSource, order: list[Rows], seed: int
    ) -> dict[str, float]:
        """Train on each batch once and return the mean of each loss term; epochs count from 1."""
        started, own = time.perf_counter(), order
        if self.model.trained_backbone is not None:
            own = [rows[distributed.own_share(len(rows))] for rows in order]
        views = source.batches(iter(own), seed, self.method.n_views)
        sums: Terms = {}
        first = self.step
        unchecked: list[tuple[int, Rows, Terms]] = []
        for rows, view in zip(order, views, strict=True):
            labels = source.labels[rows]
            terms = self._train_step(view, rows, torch.from_numpy(labels))
            unchecked.append((self.step, labels, terms))
            if len(unchecked) >= self.check_every:
                _check_terms(unchecked, epoch)
            for name, value in terms.items():
                sums[name] = sums[name] + value if name in sums else value
            self.step += 1
        _check_terms(unchecked, epoch)
        self._check_weights(f"epoch {epoch}, steps {first} to {self.step - 1}", epoch)
        means = {name: float(value) / len(order) for name, value in sums.items()}
        self.seconds += time.perf_counter() - started
        self.timed_steps += len(order)
        return means

    def _train_step(self, view: Views, rows: Rows, labels: Tensor) -> Terms:
        if self.method.rotates:
            view, labels = self._rotate(view, len(labels))
        batch = self._make_batch(view, labels)
        terms = self.method.terms(batch)
        if self.retention is not None:
            terms = terms | self.retention.terms(batch, torch.from_numpy(rows))
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        if self.model.trained_backbone is not None:
            distributed.sum_gradients(self.model.trained_backbone.parameters())
        if self.retention is not None:
            terms = terms | self.retention.pull_weights()
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        self.method.after_step(batch, self.model)
        return {name: value.detach() for name, value in terms.items()}

    def _rotate(self, view: Views, n: int) -> tuple[Views, Tensor]:
        """The images of a batch of n, rotated by random quarter turns, and the number of turns."""
        if not view.images:
            problem = 'image rotation needs images: set model.mode = "finetune"'
            raise OodmlError(problem, "model.mode", "head", ("finetune",))
        turns = torch.randint(4, (n,), generator=self.random)
        own = turns[distributed.own_share(n)]
        return Views(view.rows, images=[rotate(part, own) for part in view.images]), turns

    def _check_weights(self, period: str, epoch: int) -> None:
        """Raise NonFiniteError if a trained parameter is not finite; sums are fast to check."""
        optimized = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        named = [(f"the method's {name}", p) for name, p in self.method.named_parameters()]
        named += [(name, p) for name, p in self.model.named_parameters() if id(p) in optimized]
        named = [(name, p) for name, p in named if p.requires_grad]
        if not named:
            return
        sums = torch.stack([parameter.detach().sum(dtype=torch.float32) for _, parameter in named])
        for (name, _), value in zip(named, sums.tolist(), strict=True):
            if not math.isfinite(value):
                problem = f"{name} is not finite after {period}, though every loss term was"
                advice = "Guard gradients of roots, logarithms, and divisions, or lower train.lr."
                raise NonFiniteError(problem, epoch, advice)

    def _make_batch(self, view: Views, labels: Tensor) -> Batch:
        encode = partial(self._encode, len(labels))
        images = [part.to(self.device, non_blocking=True) for part in view.images]
        features = [part.to(self.device) for part in view.features]
        if not features:
            features = [encode(self.model, images[0])]
        return Batch(
            features=features[0], outputs=self.model.head(features[0]), encode=encode,
            labels=labels.to(self.device), step=self.step, generator=self.random,
            images=images[0] if images else None,
            second_features=features[1] if len(features) > 1 else None,
            second_images=images[1] if len(images) > 1 else None,
        )  # fmt: skip

    def _encode(self, n: int, model: Embedder, images: Tensor) -> Tensor:
        """Features [n f] of the whole batch, from this process's share of its images."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            if self.chunk_size is None or not torch.is_grad_enabled():
                features = model.features(images)
            else:
                chunks = torch.split(images, self.chunk_size)
                parts = [checkpoint(model.features, part, use_reentrant=False) for part in chunks]
                features = torch.cat(parts)
        return distributed.gather_features(full_precision(features), n)


def _check_terms(unchecked: list[tuple[int, Rows, Terms]], epoch: int) -> None:
    """Raise NonFiniteError if a loss term of these steps is not finite; empty the list."""
    for step, labels, terms in unchecked:
        for name, value in terms.items():
            if not bool(torch.isfinite(value)):
                where = f"at step {step}, in epoch {epoch}"
                advice = "Lower train.lr, or inspect the images of these classes."
                problem, classes = f"{float(value)} {where}", np.unique(labels).tolist()
                raise NonFiniteError(f"the loss term {name!r} is {problem}", epoch, advice, classes)
    unchecked.clear()


def _make_optimizer(
    model: Embedder, method: BaseMethod, settings: TrainSettings, tuning: Tuning
) -> torch.optim.Optimizer:
    lr = settings.lr or (1e-3 if model.trained_backbone is None else 1e-5)
    head: dict[str, object] = {"params": list(model.head.parameters())}
    head |= {"lr": settings.head_lr or lr, "weight_decay": settings.weight_decay}
    groups = [head, *tuning.parameter_groups(settings), *method.parameter_groups(lr)]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)
