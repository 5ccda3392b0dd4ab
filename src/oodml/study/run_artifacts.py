"""What of a run outlives the process that does it, should that one stop."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.model import Embedder
from oodml.study.folder.store import Store, versions
from oodml.study.tracking import Log, tracked
from oodml.training.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from oodml.training.trainer import NonFiniteError


@dataclass(frozen=True)
class Keep:
    """Where a run of a study keeps things, and how often.

    planned: its entry in the plan. checkpoint_seconds: between two checkpoints, at the least.
    trackers: of `oodml.study.tracking`.
    """

    store: Store
    planned: Mapping[str, Any]
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    trackers: Sequence[str] = ()

    def checkpoint(self, stage: str, device: torch.device, epochs: int) -> Checkpoint:
        """Of one of the run's trainings. Other versions and kinds of device give other numbers.

        epochs: of the training; a refit's are chosen by one that may come out otherwise on a GPU.
        """
        run = self.planned["id"]
        setting = (repr(sorted(versions().items())), device.type, str(epochs))
        key = content_hash(run, stage, *setting)
        path = self.store.checkpoints / run / f"{stage}.safetensors"
        return Checkpoint(path, key, self.checkpoint_seconds)

    def failed_model(self, model: Embedder, error: NonFiniteError) -> str:
        """Keep the last good weights of a run whose loss is not finite; gives where, in words."""
        folder = self.store.failed_model(self.planned["id"])
        model.save(folder)
        which = f"after epoch {error.epoch}" if error.epoch else "before training"
        return f"The weights {which} are kept: oodml.load_model({str(folder)!r})."

    def tracked(self) -> AbstractContextManager[Log]:
        """What is told how the run gets on, while it runs."""
        study = self.store.read_plan()["name"] if self.trackers else ""
        return tracked(self.trackers, study, self.planned, self.store.folder / "tracking")


def told(error: NonFiniteError, classes: tuple[str, ...], kept: str) -> OodmlError:
    """The error of a training, with its classes' names and what is kept."""
    names = sorted(classes)
    return OodmlError(f"{error.told([names[label] for label in error.labels])} {kept}")
