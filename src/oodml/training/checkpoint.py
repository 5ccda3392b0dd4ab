"""Checkpoints: what a training needs to go on where it was, to the bit on the CPU."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from oodml.held import fits, load_module_state, module_state
from oodml.methods._base import BaseMethod
from oodml.model import Embedder
from oodml.states import state_key, write_state
from oodml.training.best_weights import Kept
from oodml.training.trainer import Steps

CHECKPOINT_SECONDS = 60.0
"""Seconds from one checkpoint to the next, at the least."""
VERSION = "2"


@dataclass
class Checkpoint:
    """A file that a training writes at the end of epochs, and that another goes on from.

    key: a hash of all that the numbers depend on; a file of another key is passed over.
    every: seconds between two writings.
    """

    path: Path
    key: str
    every: float = CHECKPOINT_SECONDS
    _written: float = field(default_factory=time.monotonic)
    _told: set[str] = field(default_factory=set)

    def offer(self, progress: "Progress") -> None:
        """Write, if it is time to. What fails is told once; the training needs no checkpoint."""
        if time.monotonic() - self._written < self.every:
            return
        try:
            state = progress.state()
            write_state(self.path, state, VERSION + self.key)
            if unheld := state["model"]["unheld"] + state["method"]["unheld"]:
                self._tell(
                    "does not hold all, and a training that goes on from it may differ; put into "
                    "parameters, buffers or plain attributes what the method keeps in",
                    ", ".join(unheld),
                )
        except Exception as error:  # a full disk, or what a method of the user's holds
            self._tell("cannot be written; the training goes on without", error)
        self._written = time.monotonic()

    def _tell(self, what: str, reason: object) -> None:
        if what not in self._told:
            logging.getLogger("oodml").warning("%s: the checkpoint %s: %s", self.path, what, reason)
        self._told.add(what)

    def found(self) -> Path | None:
        """The file, if it can be gone on from; if it is torn or another's, None with a word."""
        if not self.path.exists():
            return None
        try:
            if state_key(self.path) == VERSION + self.key:
                return self.path
            reason = "of another training"
        except ValueError as error:
            reason = str(error)
        told = "%s: %s; it is passed over, the training starts anew"
        logging.getLogger("oodml").warning(told, self.path, reason)
        return None


@dataclass
class Progress:
    """All that changes in the course of a training, and the epochs that are whole."""

    model: Embedder
    method: BaseMethod
    steps: Steps
    kept: Kept
    epoch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """It as plain values and tensors."""
        return {
            "epoch": self.epoch,
            "rows": self.rows,
            "step": self.steps.step,
            "model": module_state(self.model.trained),
            "method": module_state(self.method),
            "optimizer": self.steps.optimizer.state_dict(),
            "kept": self.kept.state(self.epoch),
            "random": {
                "mining": self.steps.random.get_state(),
                "global": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same training; with a word start anew, if that cannot be."""
        if not (fits(self.model.trained, state["model"]) and fits(self.method, state["method"])):
            told = "the checkpoint holds modules that are made on the way; the training starts anew"
            logging.getLogger("oodml").warning(told)
            return
        self.epoch, self.rows = state["epoch"], state["rows"]
        self.steps.step = state["step"]
        load_module_state(self.model.trained, state["model"])
        load_module_state(self.method, state["method"])
        self.steps.optimizer.load_state_dict(state["optimizer"])
        self.kept.load_state(self.model, state["kept"])
        random = state["random"]
        self.steps.random.set_state(random["mining"])
        torch.set_rng_state(random["global"])
        if len(random["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(random["cuda"])
