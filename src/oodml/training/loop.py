"""The one training loop, for every method, on cached features or on images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from oodml import distributed
from oodml.methods._base import BaseMethod
from oodml.model import Embedder
from oodml.randomness import derived_seed, generator
from oodml.states import read_state
from oodml.training.best_weights import Kept, Metrics
from oodml.training.checkpoint import Checkpoint, Progress
from oodml.training.sampler import ClassBalanced
from oodml.training.settings import TrainSettings
from oodml.training.sources import Source
from oodml.training.trainer import NonFiniteError, Steps

Look = Callable[[], Metrics]


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
    validate: Look | None = None,
    diagnose: Look | None = None,
    checkpoint: Checkpoint | None = None,
    log: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Train `model` in place by `method` and leave it at the epoch that validates best.

    validate: metrics of the model on validation classes; without it the last epoch is kept.
    diagnose: metrics of the test classes, for the history; nothing is chosen by them.
    checkpoint: where to go on from, and to write what another may go on from.
    log: told each epoch's row of the history.
    Raises NonFiniteError if a loss or a weight is not finite; the model is then left at the best
    epoch so far or, where nothing validates, at the last whole one.
    """
    _place(model, method, settings, device)
    steps = Steps(model, method, settings, generator(seed, "mining"), device)
    kept = Kept(model, settings.select)
    progress = Progress(model, method, steps, kept)
    found = distributed.once(lambda: checkpoint.found() if checkpoint else None)
    if found is not None:
        progress.load_state(read_state(found, device))
    sampler = ClassBalanced(source.labels, settings.batch_size, settings.per_class)
    for epoch in range(progress.epoch + 1, settings.epochs + 1):
        distributed.align(model, method)
        model.train()
        method.train()
        if not steps.frozen:
            model.backbone.requires_grad_(epoch > settings.warmup_epochs)
        order = list(sampler.epoch(np.random.Generator(np.random.PCG64(derived_seed(seed, epoch)))))
        try:
            terms = steps.epoch(epoch, source, order, derived_seed(seed, "views", epoch))
        except NonFiniteError as error:
            kept.restore(model)
            error.epoch = kept.epoch
            raise
        looks = epoch % settings.evaluate_every == 0 or epoch == settings.epochs
        metrics = validate() if validate and looks else None
        row = {"epoch": float(epoch)} | terms | _prefixed("validation", metrics or {})
        row |= _prefixed("test", diagnose() if diagnose and looks else {})
        kept.offer(model, epoch, metrics)
        progress.epoch, progress.rows = epoch, [*progress.rows, row]
        if log:
            log(row)
        if checkpoint:
            checkpoint.offer(progress)
    kept.restore(model)
    return History(progress.rows, kept.epoch, kept.metrics)


def _place(
    model: Embedder, method: BaseMethod, settings: TrainSettings, device: torch.device
) -> None:
    """Bring model and method to the device, laid out as they compute fastest there."""
    if model.settings.mode == "finetune":
        if not model.settings.freeze_batch_norm:
            distributed.synchronise_batch_norm(model, device)
        if settings.precision == "bf16" and device.type == "cuda":
            model.backbone.lay_out(torch.channels_last)
    model.to(device)
    method.to(device)
    method.prepare(model)


def _prefixed(prefix: str, metrics: Metrics) -> Metrics:
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
