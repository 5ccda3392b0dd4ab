"""A model to deploy: a study's method, trained on all classes, with a model card."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oodml import __version__
from oodml.analysis.formatting import format_interval, format_level
from oodml.analysis.table import ranked_metrics
from oodml.backbones import VECTORS, load_backbone
from oodml.catalog import make_importable
from oodml.devices import resolve_device
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.registry import find_metric
from oodml.files import creating_folder, write_text
from oodml.images.image_set import ImageSet
from oodml.model import Embedder
from oodml.progress import Progress
from oodml.report.folder import StudyFolder, read_folder
from oodml.report.gain_tables import describe_losses
from oodml.report.tables import select, tables
from oodml.results.plan import RunPlan
from oodml.results.schema import Stage
from oodml.shift.splits import Progression, Split
from oodml.study.plan import Run, run_from_plan
from oodml.study.prepare import Context
from oodml.study.run import train_run

CARD = Path(__file__).with_name("model_card.md")
UNKNOWN_PARTS = "The study is too small to divide the loss into difficulty and shift."


def fit_model(
    folder: str | Path,
    out: str | Path,
    method: str | None = None,
    *,
    seed: int = 0,
    device: str | None = None,
    trust_code: bool = False,
    log: Callable[[str], object] = lambda _: None,
) -> Embedder:
    """Train a method of a study on all classes, and write a model folder with a model card.

    The settings are those of the study's runs; the number of epochs is the median of the epochs
    that validation classes selected. The model is returned in evaluation mode.

    Args:
        out: the model folder to create: model.json, model.safetensors, run.json, and README.md.
        method: the method's name in the results; by default the trained method with the best AGS.
        trust_code: import the user code that the folder names.
        log: called with the method, its AGS, and the baseline that scores higher, if there is one.
    """
    if (target := Path(out)).exists():
        raise error_at(out, "exists already; choose another folder")
    study = read_folder(folder, trust_code=trust_code)
    computed = tables(study)
    scores = select(computed, "ags", ranked_metrics(study.table)[0]).set_index("method")
    planned, images = _planned_run(study, scores, method), study.images
    if images is None:
        problem = f"the images of the study could not be opened: {'; '.join(study.notes)}"
        raise error_at(folder, problem)
    make_importable(*study.plan.import_from)
    rows = study.table[study.table["stage"] == Stage.VALIDATION]
    is_epoch = rows["metric"] == "epoch"
    selected = rows[is_epoch & (rows["method"] == planned.label)]["value"]
    is_selected = planned.trains and not selected.empty and not is_epoch.all()
    changes: dict[str, Any] = {"refit": False, "keep_epochs": False}
    changes |= {"epochs": max(1, round(float(np.median(selected))))} if is_selected else {}
    split = Split("all", images.class_names, (), 0.0)
    run = replace(run_from_plan(planned, split), shots=(), seed=seed)
    run = replace(run, train=run.train.model_copy(update=changes))
    model = train_with_progress(run, images, device)
    how = "the median that validation classes selected" if is_selected else "as in the study"
    how = f"It was trained for {run.train.epochs} epochs, {how}."
    score = scores.loc[[planned.label]].iloc[0]
    how = how if run.trains else "Nothing was trained."
    choice = _describe_choice(scores, run.label, ranked_metrics(study.table)[0])
    card = _card(study, computed, score, run, f"{choice} {how}", images, target.name)
    with creating_folder(target) as staged:
        model.save(staged)
        write_text(staged / "run.json", run.to_plan().model_dump_json(indent=1))
        write_text(staged / "README.md", card)
    log(choice)
    return model


def train_with_progress(run: Run, images: ImageSet, device: str | None = None) -> Embedder:
    """The trained model of a run, with its backbone; epochs are shown as progress."""
    context = Context(images, Progression((run.split,), "given"), resolve_device(device))
    with Progress(f"Training {run.label}", run.train.epochs, "epochs") as progress:
        model, _ = train_run(run, context, lambda metrics, epoch: progress.advance(1))
    if model.backbone is None and run.model.backbone != VECTORS:
        model.backbone = load_backbone(run.model.backbone, run.model.weights)
    return model.cpu().eval()


def _planned_run(study: StudyFolder, scores: pd.DataFrame, method: str | None) -> RunPlan:
    runs = [run for run in study.plan.runs if run.label in scores.index]
    own = {run.label: run for run in runs if not run.external}
    trained = [str(name) for name in scores.index if name in own and own[str(name)].trains]
    if method is None and not trained:
        raise OodmlError(f"{study.path}: no trained method has results", location="method")
    chosen = trained[0] if method is None else method
    if chosen not in own and any(run.label == chosen for run in runs):
        problem = f"method {chosen!r} was trained elsewhere; train it on all classes there"
        raise OodmlError(problem, "method", chosen)
    if chosen not in own:
        raise unknown("method", chosen, own, str(study.path))
    return own[chosen]


def _describe_choice(scores: pd.DataFrame, label: str, metric: str) -> str:
    """The method, its AGS, and the best baseline if it scores higher."""
    ags = {str(name): format_level(float(value), metric) for name, value in scores["ags"].items()}
    better = scores[~scores["trains"].astype(bool) & (scores["ags"] > scores["ags"][label])]
    text = f"The method is {label}, with an AGS of {ags[label]}."
    best = "" if better.empty else str(better["ags"].idxmax())
    return f"{text} {best}, which is not trained, scores higher: {ags[best]}." if best else text


def _card(
    study: StudyFolder,
    computed: Mapping[str, pd.DataFrame],
    score: "pd.Series[Any]",
    run: Run,
    epochs: str,
    images: ImageSet,
    name: str,
) -> str:
    metric = ranked_metrics(study.table)[0]
    values = {f"`{key}`": value for key, value in run.options.items()}
    for part in ("model", "train") if run.trains else ("model",):
        settings = getattr(run, part).model_dump(mode="json")
        values |= {f"`{part}.{key}`": value for key, value in settings.items()}
    names = ("ags", "easiest", "hardest", "loss")
    levels = {key: format_level(float(score[key]), metric) for key in names}

    def interval(key: str) -> str:
        low, high = float(score[f"{key}_low"]), float(score[f"{key}_high"])
        return format_interval(low, high, metric) if np.isfinite(low) else "none with one seed"

    return CARD.read_text("utf-8").format(
        name=name, run=run, study=study, epochs=epochs, version=__version__, **levels,
        n_classes=len(images.class_names), n_images=len(images),
        n_splits=study.table["split"].nunique(), metric=find_metric(metric).label,
        settings="\n".join(f"| {key} | {json.dumps(value)} |" for key, value in values.items()),
        seeds=f", with {int(score['seeds'])} seeds" if score["seeds"] > 1 else ", with one seed",
        ags_interval=interval("ags"), loss_interval=interval("loss"),
        start="standard" if np.isfinite(float(score["standard"])) else "easiest",
        parts_of_loss=describe_losses(computed["losses"]) or UNKNOWN_PARTS,
    )  # fmt: skip
