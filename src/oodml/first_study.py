"""`oodml try`: a first study of a folder of images within a time budget, answered in sentences."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from oodml.analysis.formatting import (
    format_difference,
    format_interval,
    format_level,
    format_points,
)
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.report.folder import read_folder
from oodml.report.forecast import forecast_target
from oodml.report.tables import select, tables
from oodml.report.write import write_report
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study

METHODS = ("margin", "multisimilarity", "proxy_anchor")
BASELINE = "frozen"
METRIC = "recall@1"
N_SPLITS = 5
MIN_CLASSES = 8
MAX_SEEDS = 5
SAMPLE = 32
"""Images that are embedded to measure the speed."""
FEATURE_SHARE = 0.4
"""The largest share of the time that goes into features; the rest is for training and the page."""
RESERVE = 0.25
"""The share of the time reserved for the report and the forecast."""

HEADER = """\
# Written by `oodml try`. To extend the study, edit this file, for example the methods or seeds, and
# run `oodml study run study.toml --out .` in this folder.
"""

Log = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """The size of a first study.

    Attributes:
        views: augmented views of each image.
        few: the numbers of classes and of images per class to use, or None for all.
        shots: labeled images per new class, for few-shot adaptation.
    """

    views: int
    few: tuple[int, int] | None
    shots: tuple[int, ...]


@dataclass(frozen=True)
class FirstStudy:
    """The result of `try_images`.

    Attributes:
        sentences: the answer, at most six sentences.
        page: the report.
        study_file: a study file that `oodml study run` can extend.
    """

    sentences: tuple[str, ...]
    page: Path
    study_file: Path


def try_images(
    photos: str,
    out: Path,
    *,
    new: str | None = None,
    backbone: str = "lite0",
    minutes: float = 10.0,
    device: str | None = None,
    log: Log = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> FirstStudy:
    """Compare a frozen network with trained heads on splits of a folder, and state the answer.

    Images are sampled, and seeds are added, such that the study ends within the time budget.

    Args:
        photos: a folder or table of images, or a dataset's name.
        out: the study folder to create.
        new: a folder of new, unlabeled images to forecast.
        backbone: the network whose features are used.
        minutes: the time budget.
        device: torch device; by default CUDA if available, else the CPU.
        log: called with a message before each step.
        clock: the current time in seconds.

    Raises:
        OodmlError: if there are too few classes, or the budget is too small for one seed.
    """
    start, budget = clock(), 60.0 * minutes
    images = open_images(photos, skip_corrupt=True)
    _check_size(images)
    log(f"Measuring the speed of {backbone} on {min(SAMPLE, len(images))} images.")
    seconds = _seconds_per_image(images, backbone, device, clock)
    plan = plan_first_study(images, seconds, budget)
    study_file = out / "study.toml"
    seeds = 1
    while True:
        began = clock()
        write_text(study_file, _study_text(photos, images, backbone, plan, seeds))
        log(f"Training with {seeds} {'seed' if seeds == 1 else 'seeds'}.")
        status = run_study(read_study(study_file), out, device=device)
        if status.failed:
            raise OodmlError(
                f"{out}: {len(status.failed)} runs failed; `oodml study status {out}` lists the "
                "reasons",
                location=str(out),
            )
        per_seed = clock() - began
        left = budget * (1 - RESERVE) - (clock() - start)
        if seeds == MAX_SEEDS or left < per_seed:
            break
        seeds += 1
    log("Writing the report.")
    report = write_report(out)
    sentences = _sentences(images, plan, out, report.answer.headline, new, backbone, device)
    return FirstStudy(tuple(sentences), report.page, study_file)


def plan_first_study(images: ImageSet, seconds: float, budget: float) -> Plan:
    """Choose the number of views and images such that features fit into the time budget.

    Args:
        images: the images of the folder.
        seconds: the time to embed one view of one image.
        budget: the time budget in seconds.
    """
    counts = np.bincount(images.labels)
    affordable = max(FEATURE_SHARE * budget / max(seconds, 1e-9), 1.0)
    views = int(np.clip(affordable / len(images) - 1, 1, 4))
    few = None
    if len(images) * (1 + views) > affordable:
        total = affordable / (1 + views)
        per_class = int(max(6, total // len(counts)))
        classes = int(np.clip(total // per_class, MIN_CLASSES, len(counts)))
        few = (classes, per_class)
        counts = np.minimum(counts, per_class)
    shots = tuple(n for n in (5, 2) if n + 2 <= counts.min())[:1]
    return Plan(views, few, shots)


def _check_size(images: ImageSet) -> None:
    counts = np.bincount(images.labels)
    if len(counts) < MIN_CLASSES:
        raise OodmlError(
            f"{images.name}: {len(counts)} classes; at least {MIN_CLASSES} are needed to divide "
            "them into training and test classes",
            location=images.name,
            given=len(counts),
        )


def _seconds_per_image(
    images: ImageSet, backbone: str, device: str | None, clock: Callable[[], float]
) -> float:
    """The time to embed one image, after the network has been loaded once."""
    rows = np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(np.int64)
    sample = images.select(np.unique(rows))
    embed(sample.select(np.arange(1)), backbone, device=device, cache=False)
    start = clock()
    embed(sample, backbone, device=device, cache=False)
    return (clock() - start) / len(sample)


def _study_text(photos: str, images: ImageSet, backbone: str, plan: Plan, seeds: int) -> str:
    path = Path(photos).expanduser()
    data: dict[str, Any] = {"name": str(path.resolve()) if path.exists() else photos}
    if plan.few is not None:
        data["few"] = list(plan.few)
    if images.left_out:
        data["skip_corrupt"] = True
    classes = len(images.class_names) if plan.few is None else plan.few[0]
    tables: dict[str, Any] = {
        "data": data,
        "name": images.name,
        "seeds": list(range(seeds)),
        "shots": list(plan.shots),
        "episodes": 5,
        "splits": {"n_splits": N_SPLITS, "backbone": backbone},
        "model": {"backbone": backbone, "views": plan.views},
        "train": {"epochs": 20, "batch_size": min(112, 2 * max(2, classes // 4))},
        "adapt": {"iterations": 100, "views": plan.views},
        "methods": {name: {} for name in (*METHODS, BASELINE)},
    }
    return HEADER + tomli_w.dumps(tables)


def _sentences(
    images: ImageSet,
    plan: Plan,
    out: Path,
    headline: str,
    new: str | None,
    backbone: str,
    device: str | None,
) -> list[str]:
    folder = read_folder(out)
    computed = tables(folder)
    order = select(computed, "ags", METRIC).sort_values("ags", ascending=False)
    best = order[order["trains"].astype(bool)].to_dict("records")[0]
    sentences = [_describe_folder(images, plan), headline, _describe_loss(best)]
    sentences.append(_describe_training(computed, str(best["method"])))
    if plan.shots:
        sentences.append(_describe_adaptation(computed, str(best["method"]), plan.shots[0]))
    if new is not None:
        target = embed(open_images(new, skip_corrupt=True), backbone, device=device)
        forecast = forecast_target(folder, target, METRIC)
        methods = forecast.methods
        row = methods[methods["method"] == best["method"]].to_dict("records")[0]
        outside = " It is outside the range of the study." if forecast.outside else ""
        sentences.append(
            f"On {new} ({len(target)} images), expect {format_level(row['expected'], METRIC)} "
            f"Recall@1 from {best['method']} (80% interval "
            f"{format_interval(row['low_80'], row['high_80'], METRIC)}).{outside}"
        )
    return sentences


def _describe_folder(images: ImageSet, plan: Plan) -> str:
    groups = len(set(images.superclass_of.values()))
    text = f"{images.name} contains {len(images):,} images of {len(images.class_names):,} classes"
    text += f" in {groups} groups" if groups else ""
    if images.left_out:
        text += f"; {len(images.left_out)} corrupt images are left out"
    if plan.few is not None:
        text += (
            f"; the study uses up to {plan.few[1]} images of {plan.few[0]:,} classes to stay "
            "within the time"
        )
    return f"{text}."


def _describe_loss(best: Mapping[Any, Any]) -> str:
    change = float(best["easiest"] - best["hardest"])
    verb = "loses" if change >= 0 else "gains"
    return (
        f"From the easiest to the hardest split, {best['method']} {verb} "
        f"{format_difference(abs(change), METRIC)} points of Recall@1 "
        f"({format_level(best['easiest'], METRIC)} to {format_level(best['hardest'], METRIC)})."
    )


def _describe_training(computed: Mapping[str, pd.DataFrame], best: str) -> str:
    pairs = select(computed, "pairs", METRIC)
    row = pairs[(pairs["method"] == best) & (pairs["other"] == BASELINE)].to_dict("records")[0]
    gain = format_points(float(row["difference"]), sign=True)
    if not np.isfinite(row["low"]):
        return (
            f"Training changes Recall@1 by {gain} points on average over the frozen network; with "
            "one seed, there is no confidence interval."
        )
    interval = f"95% interval {format_interval(row['low'], row['high'], METRIC, difference=True)}"
    if row["low"] > 0:
        return f"Training is worth it: {gain} points over the frozen network ({interval})."
    if row["high"] < 0:
        return f"Training is not worth it: {gain} points against the frozen network ({interval})."
    return f"Whether training is worth it is undecided: {gain} points ({interval})."


def _describe_adaptation(computed: Mapping[str, pd.DataFrame], best: str, shots: int) -> str:
    gains = select(computed, "few_shot", METRIC)
    rows = gains[(gains["method"] == best) & (gains["shots"] == shots)]
    change = format_points(float(rows["gain"].mean()), sign=True)
    return (
        f"{'Five' if shots == 5 else 'Two'} labeled images per new class change Recall@1 of {best} "
        f"by {change} points on average over the splits."
    )
