"""Checkpoints: the state of a training, from which it resumes exactly (bit for bit on the CPU)."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from oodml.errors import unknown
from oodml.files import replacing
from oodml.methods._base import BaseMethod
from oodml.model import Embedder
from oodml.training.trainer import Trainer
from oodml.training.tuning import Metrics

_LOG = logging.getLogger("oodml")
CHECKPOINT_SECONDS = 60.0
"""The default minimum time between two checkpoints, in seconds."""
VERSION = "4"
"""Increase it when the contents of a checkpoint change."""


class BestWeights:
    """The weights of the epoch with the best validation metric.

    Before the first evaluation, and without validation classes, these are the latest weights. The
    model before training counts as epoch 0. `select` are the metrics to maximize, joined by "+".
    """

    def __init__(self, model: Embedder, select: str) -> None:
        self.select = select.split("+")
        self.best = float("-inf")
        self.metrics: Metrics = {}
        self._store(model, 0)

    def update(self, model: Embedder, epoch: int, metrics: Metrics | None) -> None:
        """Take the weights after an epoch into account; None if it was not evaluated."""
        value = float("-inf") if metrics is None else self.score(metrics)
        if metrics is not None and value > self.best:
            self.best, self.metrics = value, metrics
        elif self.metrics:
            return
        self._store(model, epoch)

    def restore(self, model: Embedder) -> None:
        model.trained.load_state_dict(self.weights)

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """The state for a checkpoint after `epoch`; weights equal to the model's are left out."""
        weights = {} if self.epoch == epoch else self.weights
        return {"best": self.best, "metrics": self.metrics, "epoch": self.epoch, "weights": weights}

    def load_state_dict(self, model: Embedder, state: dict[str, Any]) -> None:
        self.best, self.metrics = state["best"], state["metrics"]
        self._store(model, state["epoch"])
        if state["weights"]:
            self.weights = state["weights"]

    def score(self, metrics: Metrics) -> float:
        for name in self.select:
            if name not in metrics:
                raise unknown("metric", name, metrics, "train.select")
        return sum(metrics[name] for name in self.select)

    def _store(self, model: Embedder, epoch: int) -> None:
        self.epoch = epoch
        self.weights = {name: tensor.clone() for name, tensor in model.trained.state_dict().items()}


@dataclass
class TrainingState:
    """Everything that changes during a training."""

    model: Embedder
    method: BaseMethod
    trainer: Trainer
    best: BestWeights
    epoch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch, "rows": self.rows, "step": self.trainer.step,
            "model": self.model.trained.state_dict(), "method": self.method.state_dict(),
            "optimizer": self.trainer.optimizer.state_dict(),
            # With an average, the best weights never are the model's own.
            "best_weights": self.best.state_dict(-1 if self.trainer.average else self.epoch),
            "average": self.trainer.average.average if self.trainer.average else [],
            "random": {
                "mining": self.trainer.random.get_state(),
                "global": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        method, model = self.method.state_dict(), self.model.trained.state_dict()
        if (model.keys(), method.keys()) != (state["model"].keys(), state["method"].keys()):
            problem = "the checkpoint contains modules that the method creates during training"
            _LOG.warning("%s; the training starts from the beginning", problem)
            return
        self.epoch, self.rows = state["epoch"], state["rows"]
        self.trainer.step = state["step"]
        self.model.trained.load_state_dict(state["model"])
        self.method.load_state_dict(state["method"])
        self.trainer.optimizer.load_state_dict(state["optimizer"])
        self.best.load_state_dict(self.model, state["best_weights"])
        if self.trainer.average is not None:
            self.trainer.average.average = state["average"]
        random = state["random"]
        self.trainer.random.set_state(random["mining"].cpu())
        torch.set_rng_state(random["global"].cpu())
        if len(random["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([one.cpu() for one in random["cuda"]])


@dataclass
class Checkpoint:
    """A checkpoint file of one training, saved every few seconds at most.

    `key` is a hash of what the numbers depend on; a file with another key is ignored.
    """

    path: Path
    key: str
    every: float = CHECKPOINT_SECONDS
    _saved_at: float = field(default_factory=time.monotonic)
    _failed: bool = False

    def save_if_due(self, state: TrainingState) -> None:
        """Save the state if it is time to; a failure is logged and never fails the training."""
        if time.monotonic() - self._saved_at < self.every:
            return
        try:
            with replacing(self.path) as path:
                torch.save({"key": VERSION + self.key, "state": state.state_dict()}, path)
        except Exception as error:  # a full disk, or user code in get_extra_state
            if not self._failed:
                problem = f"{self.path}: could not save the checkpoint: {error}"
                _LOG.warning("%s. The training continues without one.", problem)
            self._failed = True
        self._saved_at = time.monotonic()

    def find(self) -> Path | None:
        """The checkpoint to resume from; None, with a warning, if it is corrupt or another's."""
        if not self.path.exists():
            return None
        problem = "the checkpoint of another training"
        try:
            if torch.load(self.path, weights_only=True, mmap=True)["key"] == VERSION + self.key:
                return self.path
        except Exception as error:  # damaged files raise many types of exceptions
            problem = f"could not load the checkpoint: {str(error).partition(chr(10))[0]}"
        _LOG.warning("%s: %s; the training starts from the beginning", self.path, problem)
        return None
