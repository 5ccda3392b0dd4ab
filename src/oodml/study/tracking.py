"""Trackers: each run of a study is a run in TensorBoard, W&B, MLflow, or trackio."""

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from oodml.errors import invalid, unknown
from oodml.results.plan import RunPlan

MetricLog = Callable[[Mapping[str, float], int], None]
"""Called with metrics by name and the epoch, which continues from the training to the refit."""

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""The trackers; each is the package of its name."""


def check_trackers(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS, "--track")
        if importlib.util.find_spec(name) is None:
            problem = f"the package is not installed. Run `pip install {name}`."
            raise invalid("--track", name, problem)
    return tuple(names)


def epoch_metrics(stage: str, row: Mapping[str, float]) -> dict[str, float]:
    """A row of the training history under the names for trackers."""
    evaluated = [name for name in row if name.startswith(("validation_", "test_"))]
    terms = {name: row[name] for name in row if name not in evaluated and name != "epoch"}
    metrics = {name.replace("_", "/", 1): row[name] for name in evaluated}
    return prefix_metrics(stage, terms) | metrics


def prefix_metrics(stage: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics under the names for trackers; undefined ones (NaN) are left out."""
    return {f"{stage}/{name}": value for name, value in metrics.items() if value == value}


@contextmanager
def track_run(names: Sequence[str], study: str, run: RunPlan, folder: Path) -> Iterator[MetricLog]:
    """Track a run inside the block; a failing tracker is logged and disabled."""
    mlflow = f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"
    new = {"MLFLOW_TRACKING_URI": mlflow, "TRACKIO_DIR": str(folder / "trackio")}
    new = {variable: value for variable, value in new.items() if variable not in os.environ}
    title = f"{run.label} {run.split} {run.seed}".replace("/", "-")
    active: dict[str, Any] = {}

    def log(values: Mapping[str, float], epoch: int) -> None:
        for name in list(active):
            with _disable_on_error(name, active):
                at = "_at_" if name == "mlflow" else "@"  # MLflow does not allow "@"
                metrics = {key.replace("@", at): float(value) for key, value in values.items()}
                active[name].log(metrics, step=epoch)

    os.environ.update(new)
    try:
        for name in names:
            with _disable_on_error(name, active):
                active[name] = _create(name, study, title, run.id, folder / name)
                active[name].start()
                active[name].store_init_configuration(_plain_settings(run))
        yield log
    finally:
        for name in list(active):
            with _disable_on_error(name, active):
                active[name].finish()
        for variable in new:
            os.environ.pop(variable, None)


def _plain_settings(run: RunPlan) -> dict[str, Any]:
    """The settings of a run under dotted names, with values that every tracker accepts."""
    fields = {"data", "label", "method", "split", "shift", "seed", "options", "model", "train"}
    flat = pd.json_normalize(run.model_dump(mode="json", include=fields)).to_dict("records")[0]
    plain = int | float | str
    return {str(k): v if isinstance(v, plain) else str(v) for k, v in flat.items()}


def _create(name: str, study: str, title: str, run: str, folder: Path) -> Any:
    from accelerate import PartialState, tracking

    PartialState(cpu=True)  # trackers need it; no effect if `torchrun` started this process
    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        return tracking.TensorBoardTracker(f"{title} {run}", folder)  # one folder per run
    if name == "wandb":
        return tracking.WandBTracker(study, name=title, id=run, resume="allow", dir=str(folder))
    if name == "mlflow":
        return tracking.MLflowTracker(study, str(folder), run_name=title)
    import trackio  # reads TRACKIO_DIR only when it is imported

    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == trackio.__name__ and hasattr(module, "TRACKIO_DIR"):
            vars(module)["TRACKIO_DIR"] = Path(os.environ["TRACKIO_DIR"])
    return tracking.TrackioTracker(
        study, name=f"{title} {run}", resume="allow", auto_log_cpu=False, auto_log_gpu=False
    )


@contextmanager
def _disable_on_error(name: str, active: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # trackers raise anything; none may fail a training
        active.pop(name, None)
        logging.getLogger("oodml").warning("tracker %s: %s; disabled for this run", name, error)
