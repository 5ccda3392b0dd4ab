"""`oodml try`: a first study of a folder of images within a time budget, answered in sentences."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from oodml.analysis import formatting
from oodml.analysis.formatting import format_interval, format_level, format_points
from oodml.datasets import describe_gaps, open_images, open_unlabeled, without_corrupt
from oodml.embedding import embed
from oodml.errors import OodmlError, error_at
from oodml.files import write_text
from oodml.forecasting.description import describe_choice
from oodml.forecasting.target import N_VIEWS, open_forecast
from oodml.images.image_set import ImageSet
from oodml.progress import Progress, count_noun, format_duration, observe_progress
from oodml.report.folder import StudyFolder
from oodml.report.tables import select
from oodml.report.write import Report, write_report
from oodml.study.launch import run_study
from oodml.study.plan import Run
from oodml.study.prepare import Context
from oodml.study.run import execute
from oodml.study.spec.shipped import MIN_CLASSES, check_class_count
from oodml.study.spec.study_file import read_study
from oodml.vectors import VectorSet

METHODS, BASELINE, METRIC = ("margin", "multisimilarity", "proxy_anchor"), "frozen", "recall@1"
N_SPLITS, SEEDS, MAX_VIEWS = 5, 5, 4
SAMPLE = 32
"""Images that are embedded to measure the speed."""
NEW_SHARE, MIN_NEW, MAX_NEW = 0.25, 32, 1000
"""The share of the embedded images that are new ones, and their smallest and largest number."""
FEATURE_SHARE = 0.4
"""The largest share of the time that goes into features; the rest is for training and the page."""
OVERRUN = 1.5
"""Features are reduced again once they will take this many times as long as planned."""
RESERVE = 0.2
"""The share of the time reserved for the report and the forecast."""

HEADER = """\
# Written by `oodml try`. To extend the study, edit this file, for example the methods or seeds, and
# run `oodml study run study.toml --out .` in this folder.
"""

Log = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """The size of a first study; `few` are the classes and images per class, None for all."""

    views: int
    few: tuple[int, int] | None
    shots: tuple[int, ...]
    methods: tuple[str, ...] = METHODS[:2]
    seeds: int = 1


@dataclass(frozen=True)
class FirstStudy:
    """At most six sentences, the report, and a study file that `oodml study run` can extend."""

    sentences: tuple[str, ...]
    page: Path
    study_file: Path


class _OutOfTimeError(BaseException):
    """Stops a step; not an `Exception`, so that a study does not record it as a failed run."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__("out of time")
        self.rate = rate


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

    Images are sampled, and methods and seeds are added, such that the study ends within `minutes`.
    Steps that no longer fit, on a machine that slows down, are left out.

    Args:
        photos: a folder or table of images, or a dataset's name.
        new: new images to forecast: a folder of images without classes, or as `photos`.

    Raises:
        OodmlError: if there are too few classes, or a run failed.
    """
    return _FirstStudy(photos, out, backbone, device, log, 60.0 * minutes, clock, clock()).run(new)


@dataclass
class _FirstStudy:
    photos: str
    out: Path
    backbone: str
    device: str | None
    log: Log
    seconds: float
    clock: Callable[[], float]
    start: float

    @property
    def left(self) -> float:
        """The seconds until only the time reserved for the report is left."""
        return self.seconds * (1 - RESERVE) - (self.clock() - self.start)

    def run(self, new: str | None) -> FirstStudy:
        images = open_images(self.photos)
        check_class_count(images)
        unlabeled = None if new is None else replace(open_unlabeled(new), name=new)
        for note in describe_gaps(images):
            self.log(note)
        self.log(f"Measuring the speed of {self.backbone} on {min(SAMPLE, len(images))} images.")
        sample = without_corrupt(_sample(images, SAMPLE))
        self.embed(sample.select(np.arange(1)), cache=False)  # loads the network
        start = self.clock()
        self.embed(sample, cache=False)
        seconds = (self.clock() - start) / len(sample)
        plan, target = self.compute_features(images, unlabeled, seconds)
        plan = self.compare_methods(images, plan)
        self.log("Writing the report.")
        report = write_report(self.out)
        used = report.folder.images or images
        first = _describe_folder(images, used, plan, self.seconds, self.clock() - self.start)
        sentences = [first, *_sentences(report, plan)]
        if unlabeled is not None and target is not None:
            if len(target) < len(unlabeled) - len(target.left_out):
                target = replace(target, name=f"a sample of {new}")
            sentences.append(_describe_new(report.folder, target, self.device))
        return FirstStudy(tuple(sentences), report.page, self.out / "study.toml")

    def compute_features(
        self, images: ImageSet, new: ImageSet | None, seconds: float
    ) -> tuple[Plan, ImageSet | None]:
        """Fill the cache with features; returns the plan that they allow, and a sample of `new`."""
        least = 1 if new is None else N_VIEWS
        while True:
            affordable = FEATURE_SHARE * self.left / max(seconds, 1e-9)
            count = int(np.clip(NEW_SHARE * affordable / (1 + N_VIEWS), MIN_NEW, MAX_NEW))
            sample = None if new is None else _sample(new, count)
            extra = 0 if sample is None else (1 + N_VIEWS) * len(sample)
            plan = plan_first_study(images, affordable - extra, least)
            used = open_images(self.photos, few=plan.few, skip_corrupt=True)
            time_of_view = len(used) * seconds
            duration = format_duration(time_of_view * (plan.views + 1) + extra * seconds)
            size = count_noun(len(used), "image")
            self.log(f"Embedding {size} in {plan.views + 1} views, about {duration}.")
            smallest = plan.few is not None and plan.few[0] * plan.few[1] <= 6 * MIN_CLASSES
            try:
                with observe_progress(self.stop_if_slow(np.inf if smallest else seconds)):
                    self.embed(used)
                    for view in range(plan.views):
                        if view >= least and self.left < 2 * time_of_view:
                            plan = replace(plan, views=view)
                            break
                        start = self.clock()
                        self.embed(used, view)
                        time_of_view = self.clock() - start
                    if sample is not None:
                        sample = without_corrupt(sample)
                        for number in (None, *range(N_VIEWS)):
                            self.embed(sample, number)
                return plan, sample
            except _OutOfTimeError as slow:
                seconds = 1 / slow.rate
                self.log("The machine has become slower; using fewer images.")

    def embed(self, images: ImageSet, view: int | None = None, cache: bool = True) -> VectorSet:
        return embed(images, self.backbone, view=view, device=self.device, cache=cache)

    def stop_if_slow(self, planned: float) -> Callable[[Progress], None]:
        """Stop once images take much longer than planned and no longer fit into the time."""

        def check(progress: Progress) -> None:
            taken = progress.clock() - progress.started
            slow = taken > OVERRUN * planned * max(progress.done, 4 * SAMPLE)
            left = ((progress.total or 0) - progress.done) * taken / max(progress.done, 1)
            if progress.unit == "images" and slow and 2 * left > self.left:
                raise _OutOfTimeError(progress.done / taken)

        return check

    def compare_methods(self, images: ImageSet, plan: Plan) -> Plan:
        """Run the study in stages of more methods and seeds; returns the largest one that fits."""
        stages = [plan, replace(plan, methods=METHODS)]
        stages += [replace(stages[1], seeds=count) for count in range(2, SEEDS + 1)]
        done, start, runs = None, self.clock(), 0
        for stage in stages:
            count = N_SPLITS * (len(stage.methods) * stage.seeds + 1)
            if done and (count - runs) * (self.clock() - start) > runs * self.left:
                break
            seeds = count_noun(stage.seeds, "seed")
            self.log(f"Comparing {', '.join(stage.methods)} and {BASELINE}, {seeds}.")
            try:
                self.run_stage(images, stage, may_stop=done is not None)
            except _OutOfTimeError:
                self.run_stage(images, done or stage)  # only writes the results of the last stage
                break
            done, runs = stage, count
        return done or plan

    def run_stage(self, images: ImageSet, plan: Plan, may_stop: bool = False) -> None:
        def execute_in_time(run: Run, context: Context, folder: Path) -> pd.DataFrame:
            if may_stop and self.left <= 0:
                raise _OutOfTimeError
            return execute(run, context, folder)

        file = self.out / "study.toml"
        write_text(file, _study_text(self.photos, images, self.backbone, plan))
        status = run_study(read_study(file), self.out, device=self.device, execute=execute_in_time)
        if status.failed:
            failed = count_noun(len(status.failed), "run")
            raise error_at(self.out, f"{failed} failed; see `oodml study status {self.out}`")


def plan_first_study(images: ImageSet, affordable: float, least: int = 1) -> Plan:
    """The numbers of views, at least `least`, and of images such that at most `affordable` images
    are embedded."""
    counts, affordable = np.bincount(images.labels), max(affordable, 1.0)
    views = int(np.clip(affordable / len(images) - 1, least, MAX_VIEWS))
    few = None
    if len(images) * (1 + views) > affordable:
        total = affordable / (1 + views)
        per_class = int(max(6, total // len(counts)))
        few = (int(np.clip(total // per_class, MIN_CLASSES, len(counts))), per_class)
        counts = np.minimum(counts, per_class)
    return Plan(views, few, tuple(n for n in (5, 2) if n + 2 <= counts.min())[:1])


def _sample(images: ImageSet, count: int) -> ImageSet:
    rows = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
    return images.select(np.unique(rows))


def _study_text(photos: str, images: ImageSet, backbone: str, plan: Plan) -> str:
    path = Path(photos).expanduser()
    data: dict[str, Any] = {"name": str(path.resolve()) if path.exists() else photos}
    if plan.few is not None:
        data["few"] = list(plan.few)
    classes = len(images.class_names) if plan.few is None else plan.few[0]
    tables: dict[str, Any] = {
        "data": data | {"skip_corrupt": True},
        "name": images.name,
        **{"seeds": list(range(plan.seeds)), "shots": list(plan.shots), "episodes": 5},
        "splits": {"n_splits": N_SPLITS, "backbone": backbone},
        "model": {"backbone": backbone, "views": plan.views},
        "train": {"epochs": 20, "batch_size": min(112, 2 * max(2, classes // 4))},
        "adapt": {"iterations": 100, "views": plan.views},
        "methods": {name: {} for name in (*plan.methods, BASELINE)},
    }
    return HEADER + tomli_w.dumps(tables)


def _sentences(report: Report, plan: Plan) -> list[str]:
    computed = report.tables
    order = select(computed, "ags", METRIC).sort_values("ags", ascending=False)
    row = order[order["trains"].astype(bool)].to_dict("records")[0]
    best, change = str(row["method"]), float(row["easiest"] - row["hardest"])
    verb = "loses" if change >= 0 else "gains"
    levels = f"{format_level(row['easiest'], METRIC)} to {format_level(row['hardest'], METRIC)}"
    sentences = [
        report.answer.headline,
        f"From the easiest to the hardest split, {best} {verb} "
        f"{formatting.format_difference(abs(change), METRIC)} points of Recall@1 ({levels}).",
        _describe_training(computed, best),
    ]
    for shots in plan.shots:
        gains = select(computed, "few_shot", METRIC)
        rows = gains[(gains["method"] == best) & (gains["shots"] == shots)]
        gain = f"{format_points(float(rows['gain'].mean()), sign=True)} points on average"
        images = f"{'Five' if shots == 5 else 'Two'} labeled images per new class"
        sentences.append(f"{images} change Recall@1 of {best} by {gain} over the splits.")
    return sentences


def _describe_new(folder: StudyFolder, target: ImageSet, device: str | None) -> str:
    try:
        return " ".join(describe_choice(open_forecast(folder, target, device=device)))
    except OodmlError as error:
        size = count_noun(len(target), "image")
        return f"On {target.name} ({size}), no forecast is possible: {error}."


def _describe_folder(
    images: ImageSet, used: ImageSet, plan: Plan, seconds: float, taken: float
) -> str:
    sizes = [
        f"{count_noun(len(one), 'image')} of {one.describe_classes()}" for one in (images, used)
    ]
    text = f"{images.name} contains {sizes[0]}"
    changes = [] if plan.few is None else [f"uses {sizes[1]}"]
    if omitted := [name for name in METHODS if name not in plan.methods]:
        changes.append(f"leaves out {', '.join(omitted)}")
    if changes:
        changed = formatting.format_list(changes)
        text += f"; planned for {format_duration(seconds)}, the study {changed}"
    if used.left_out:
        corrupt = count_noun(len(used.left_out), "corrupt image")
        text += f"; it leaves out {corrupt}{' of these classes' if plan.few else ''}"
    if taken > OVERRUN * seconds:
        text += f". It took {format_duration(taken)} instead of {format_duration(seconds)}"
    return f"{text}."


def _describe_training(computed: Mapping[str, pd.DataFrame], best: str) -> str:
    pairs = select(computed, "pairs", METRIC)
    row = pairs[(pairs["method"] == best) & (pairs["other"] == BASELINE)].to_dict("records")[0]
    gain = format_points(float(row["difference"]), sign=True)
    if not np.isfinite(row["low"]):
        change = f"Training changes Recall@1 by {gain} points on average over the frozen network"
        return f"{change}; with one seed, there is no confidence interval."
    interval = f"95% interval {format_interval(row['low'], row['high'], METRIC, difference=True)}"
    verdict = "Whether training is worth it is undecided"
    if row["low"] > 0 or row["high"] < 0:
        verdict = "Training is worth it" if row["low"] > 0 else "Training is not worth it"
    return f"{verdict}: {gain} points over the frozen network ({interval})."
