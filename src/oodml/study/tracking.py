"""Trackers: each run of a study as a run of TensorBoard, W&B, MLflow or trackio, by accelerate."""

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, unknown

Log = Callable[[Mapping[str, float], int], None]
"""Told values by name, and the epoch, which counts on from the training to the refit."""

PACKAGES = {
    "tensorboard": ("tensorboard", "'oodml[track]'"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
    "trackio": ("trackio", "trackio"),
}
"""The trackers, the package that each needs, and what to install for it."""
SETTINGS = ("data", "label", "method", "split", "shift", "seed", "options", "model", "train")
"""What of a planned run is a tracker's configuration."""


def check_trackers(names: Sequence[str]) -> tuple[str, ...]:
    """The names; an error for one that is unknown or not installed."""
    for name in names:
        if name not in PACKAGES:
            raise unknown("tracker", name, PACKAGES, "--track")
        package, install = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise OodmlError(f"--track {name}: {package} is not installed; pip install {install}")
    return tuple(names)


@contextmanager
def tracked(
    names: Sequence[str], study: str, planned: Mapping[str, Any], folder: Path
) -> Iterator[Log]:
    """Track a run while the block runs; local files come into `folder`.

    A tracker that fails is told of and left out: a run never fails for it.
    """
    with _variables(_addresses(names, folder)):
        running = _started(names, study, planned, folder)
        try:
            yield _log(running)
        finally:
            for name in list(running):
                with _told(name, running):
                    running[name].finish()


def _started(
    names: Sequence[str], study: str, planned: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """The trackers by name, those that could be started, told the run's settings."""
    title = f"{planned['label']} {planned['split']} {planned['seed']}".replace("/", "-")
    config = dict(_flat({name: planned[name] for name in SETTINGS}))
    running: dict[str, Any] = {}
    for name in names:
        with _told(name, running):
            running[name] = _made(name, study, title, planned["id"], folder / name)
            running[name].start()
            running[name].store_init_configuration(config)
    return running


def _log(running: dict[str, Any]) -> Log:
    def log(values: Mapping[str, float], epoch: int) -> None:
        for name in list(running):
            with _told(name, running):
                told = {_named(key, name): float(value) for key, value in values.items()}
                running[name].log(told, step=epoch)

    return log


def _addresses(names: Sequence[str], folder: Path) -> dict[str, str]:
    """The environment variables that tell trackers of the names to keep files in a folder."""
    found = {
        "mlflow": ("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"),
        "trackio": ("TRACKIO_DIR", str(folder / "trackio")),
    }
    return dict(found[name] for name in names if name in found)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables while the block runs; one that is set already keeps its value."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _made(name: str, study: str, title: str, run: str, folder: Path) -> Any:
    """accelerate's tracker of a name, not started yet."""
    from accelerate import tracking

    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        return tracking.TensorBoardTracker(f"{title} {run}", folder)  # a folder of its own
    if name == "wandb":
        return tracking.WandBTracker(study, name=title, id=run, resume="allow", dir=str(folder))
    if name == "mlflow":
        return tracking.MLflowTracker(study, str(folder), run_name=title)
    return tracking.TrackioTracker(study, name=title)


@contextmanager
def _told(name: str, running: dict[str, Any]) -> Iterator[None]:
    """An error of a tracker becomes a warning, and the end of that tracker."""
    try:
        yield
    except Exception as error:  # each tracker has its own; none may cost a training
        running.pop(name, None)
        logging.getLogger("oodml").warning("tracker %s: %s; left out of this run", name, error)


def _named(key: str, tracker: str) -> str:
    return key.replace("@", "_at_") if tracker == "mlflow" else key  # it refuses that sign


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings under dotted names, as the values that every tracker takes."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{key}", value if plain else str(value)
