"""The training loop of all methods, on cached features or on images."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oodml import distributed
from oodml.files import write_text
from oodml.memory_allocator import keep_freed_memory
from oodml.methods._base import BaseMethod
from oodml.model import Embedder, FinetuneSettings
from oodml.randomness import derived_seed, generator, repeatable
from oodml.training.checkpoint import BestWeights, Checkpoint, TrainingState
from oodml.training.settings import TrainSettings
from oodml.training.sources import BatchSource, ClassBalanced
from oodml.training.trainer import NonFiniteError, Trainer
from oodml.training.tuning import (
    Metrics,
    Retention,
    Tuning,
    backbone_weights,
    peak_memory,
    prefix_names,
    search_path,
)

Evaluate = Callable[[], Metrics]
"""Computes metrics of the model in its current state."""


@dataclass(frozen=True)
class History:
    """The course of a training: for each epoch, its number, loss terms, and metrics.

    `epoch` is the selected one, 0 the model before training. `path` has the metrics of weight
    averages; `cost` are "parameters" that trained, "seconds_per_step", and "peak_bytes" of memory.
    """

    rows: list[dict[str, float]]
    epoch: int
    validation: Metrics
    path: list[dict[str, float]] = field(default_factory=list)
    cost: Metrics = field(default_factory=dict, compare=False)


def train(
    model: Embedder,
    method: BaseMethod,
    source: BatchSource,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    validate: Evaluate | None = None,
    diagnose: Evaluate | None = None,
    checkpoint: Checkpoint | None = None,
    log: Callable[[dict[str, float]], None] | None = None,
    teacher: Tensor | None = None,
) -> History:
    """Train a model in place, and leave it at the epoch with the best validation metric.

    Args:
        validate: computes metrics of the validation classes; without it the last epoch is used.
        diagnose: computes metrics of the test classes for the history; they select nothing.
        checkpoint: the checkpoint to resume from and to save to.
        log: called with the row of each epoch.
        teacher: pretrained features [n f] of the source's images; see `Retention`.
    """
    keep_freed_memory()
    backbone = model.trained_backbone
    start = backbone_weights(backbone) if settings.average and backbone is not None else {}
    state = _prepare(model, method, settings, seed, device, teacher)
    trainer, best = state.trainer, state.best
    saved = distributed.compute_once(lambda: checkpoint.find() if checkpoint else None)
    if saved is not None:
        state.load_state_dict(torch.load(saved, map_location=device, weights_only=True)["state"])
    sampler = ClassBalanced(source.labels, settings.batch_size, settings.per_class)
    for epoch in range(state.epoch + 1, settings.epochs + 1):
        for parameter in trainer.tuning.parameters:
            parameter.requires_grad_(epoch > settings.warmup_epochs)
        _train_epoch(state, epoch, source, sampler, seed)
        evaluates = epoch % settings.evaluate_every == 0 or epoch == settings.epochs
        with trainer.average.applied() if trainer.average else nullcontext():
            metrics = validate() if validate and evaluates else None
            row = state.rows[-1] | prefix_names("validation", metrics or {})
            row |= prefix_names("test", diagnose() if diagnose and evaluates else {})
            best.update(model, epoch, metrics)
        state.epoch, state.rows = epoch, [*state.rows[:-1], row]
        if log:
            log(row)
        if checkpoint:
            checkpoint.save_if_due(state)
    best.restore(model)
    cost = {
        "parameters": float(sum(parameter.numel() for parameter in trainer.trained)),
        "seconds_per_step": trainer.seconds / max(1, trainer.timed_steps),
        "peak_bytes": float(peak_memory(device)),
    }
    trainer.tuning.finish()
    history = History(state.rows, best.epoch, best.metrics, cost=cost)
    if not (settings.average and validate and backbone is not None):
        return history
    path, metrics = search_path(backbone, start, settings.average, validate, diagnose, best.score)
    return replace(history, path=path, validation=metrics)


def _prepare(
    model: Embedder,
    method: BaseMethod,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    teacher: Tensor | None,
) -> TrainingState:
    """The state before the first epoch, on the device in the memory format that is fastest."""
    tuning = Tuning(model, settings)
    if isinstance(model.settings, FinetuneSettings) and not model.settings.freeze_batch_norm:
        distributed.synchronize_batch_norm(model, device)
    backbone = model.trained_backbone
    if backbone is not None and settings.precision == "bf16" and device.type == "cuda":
        backbone.set_memory_format(torch.channels_last)
    model.to(device)
    method.to(device)
    method.prepare(model)
    retain, retention = settings.retain, None
    if retain.embedding or retain.relation or retain.weights:
        retention = Retention(retain, model, tuning.parameters, teacher)
    trainer = Trainer(model, method, settings, generator(seed, "mining"), device, tuning, retention)
    return TrainingState(model, method, trainer, BestWeights(model, settings.select))


def _train_epoch(
    state: TrainingState, epoch: int, source: BatchSource, sampler: ClassBalanced, seed: int
) -> None:
    model, method = state.model, state.method
    distributed.broadcast_weights(model, method)
    model.train()
    method.train()
    random = np.random.Generator(np.random.PCG64(derived_seed(seed, epoch)))
    order, views = list(sampler.sample_epoch(random)), derived_seed(seed, "views", epoch)
    try:
        with repeatable(state.trainer.device):
            terms = state.trainer.train_epoch(epoch, source, order, views)
    except NonFiniteError as error:
        state.best.restore(model)
        state.trainer.tuning.finish()
        error.epoch = state.best.epoch
        raise
    state.rows = [*state.rows, {"epoch": float(epoch)} | terms]


def write_history(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the rows of a history as CSV; without epochs, the header alone."""
    columns, text = list(dict.fromkeys(key for row in rows for key in row)), io.StringIO()
    writer = csv.DictWriter(text, columns or ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
