"""Files of a run besides its results: checkpoints, trackers, and the weights of a failed run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from oodml.files import content_hash
from oodml.model import Embedder
from oodml.results.plan import RunPlan
from oodml.study.folder.store import Store, versions
from oodml.study.tracking import MetricLog, track_run
from oodml.training.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from oodml.training.trainer import NonFiniteError


@dataclass(frozen=True)
class RunArtifacts:
    """Where a run writes its checkpoints, its trackers, and the weights it fails with."""

    store: Store
    run: RunPlan
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    trackers: Sequence[str] = ()

    def checkpoint(self, stage: str, device: torch.device, epochs: int) -> Checkpoint:
        """The checkpoint of one of the run's trainings.

        Its key contains what else changes the numbers: package versions, the kind of device, and
        the number of epochs, which in a refit depends on the training before it.
        """
        setting = (repr(sorted(versions().items())), device.type, str(epochs))
        key = content_hash(self.run.id, stage, *setting)
        path = self.store.checkpoints / self.run.id / f"{stage}.pt"
        return Checkpoint(path, key, self.checkpoint_seconds)

    def save_failed_model(self, model: Embedder, error: NonFiniteError) -> str:
        """Save the last finite weights of a run whose loss diverged; return where, as text."""
        folder = self.store.failed_folder(self.run.id)
        model.save(folder)
        when = f"after epoch {error.epoch}" if error.epoch else "before training"
        return f"The weights {when} are saved: oodml.load_model({str(folder)!r})."

    def open_log(self) -> AbstractContextManager[MetricLog]:
        """The log of the run's metrics, which goes to its trackers."""
        study = self.store.read_plan().name if self.trackers else ""
        return track_run(self.trackers, study, self.run, self.store.folder / "tracking")
