"""A trial of forecasts: groups of images are left out of a study and forecast by it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
from jaxtyping import Bool, Float, Int

from oodml.analysis.forecast import Forecaster, TargetForecast, score_forecasts
from oodml.analysis.judged_recall import combine, judged_recall, sample_queries
from oodml.analysis.small_targets import SmallTargets, group_classes
from oodml.arrays import Names
from oodml.datasets import image_column, open_images
from oodml.embedding import embed
from oodml.errors import error_at
from oodml.evaluate.neighbors import nearest_neighbor, unit_vectors
from oodml.files import replacing, write_text
from oodml.forecasting.judge import forecast_values
from oodml.forecasting.target import (
    MIN_TARGET,
    N_VIEWS,
    FeatureViews,
    augmented_features,
    open_forecast_study,
)
from oodml.images.image_set import ImageSet
from oodml.model import HeadSettings
from oodml.report import gain_tables
from oodml.report.folder import StudyFolder, read_folder
from oodml.results.schema import Stage
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.files import write_splits
from oodml.study.launch import run_study
from oodml.study.plan import Run
from oodml.study.prepare import Context
from oodml.study.run import metric_rows, train_run
from oodml.study.run_inputs import CachedFeatures
from oodml.study.spec.study_file import read_study
from oodml.vectors import VectorSet

MAX_LEAVE_OUTS = 10
RANDOM_CLASSES = (10, 30, 100)
JUDGED, JUDGE_DRAWS = (50, 100), 20
"""The numbers of judged queries, and how often they are sampled."""
BASELINE = "frozen"
LEFT_OUT = "\0left out"
"""The class of left-out images in training, which no split contains."""
COLUMNS = (
    "leave", "target", "method", "n_images", "n_classes", "truth", "expected", "low_80", "high_80",
    "low_95", "high_95", "gain", "gain_expected", "mean_of_splits", "size_matched_mean",
)  # fmt: skip
Mask = Bool[np.ndarray, " n"]
Rows = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class TrialSettings:
    """The studies of a trial, which also contain the frozen network."""

    data: str
    groups: str = "superclass"  # the column whose values are left out
    methods: tuple[str, ...] = ("margin", "multisimilarity", "proxy_anchor")
    seeds: int = 3
    n_splits: int = 2
    epochs: int = 10
    backbone: str = "lite0"
    image_size: int | None = None
    augmentation: str = "base"

    @property
    def features(self) -> dict[str, Any]:
        """The settings of the frozen network's features."""
        names = ("backbone", "image_size", "augmentation")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class ForecastTrial:
    """The forecasts of a trial.

    `judged` has, for each target, method, and number of judged `queries`, the mean `error`, and
    `coverage_90` and `half_90` of intervals, over samples of queries.
    """

    rows: pd.DataFrame  # the table `trial.parquet`, with the columns `COLUMNS`
    sized: pd.DataFrame  # the same for forecasts with the number of classes given
    judged: pd.DataFrame


def run_trial(
    settings: TrialSettings,
    out: Path,
    device: str | None = None,
    log: Callable[[str], object] = lambda _: None,
) -> ForecastTrial:
    """Leave groups of images out, run a study of the others, and forecast the left-out images.

    A second call continues an interrupted trial; finished runs are not repeated. `out` receives the
    tables as `trial.parquet`, `trial_sized.parquet`, and `trial_judged.parquet`.
    """
    images = open_images(settings.data, skip_corrupt=True)
    options = {"device": device} | settings.features
    leave_outs = _leave_outs(images, _column(settings, images, options))
    file, text, parts = out / "trial.json", json.dumps(asdict(settings), indent=1), []
    if file.exists() and file.read_text("utf-8") != text:
        problem = "the trial in this folder has other settings; pass another folder as --out"
        raise error_at(file, problem)
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    views = FeatureViews(embed(images, **options), augmented_features(images, options))
    for number, (name, left) in enumerate(leave_outs.items(), 1):
        log(f"Leaving out {name} ({number} of {len(leave_outs)}).")
        folder = _run_study(settings, out / "studies", number, views, left, device)
        parts.append(_forecast_left_out(name, folder, views, left))
    tables = [pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)]
    for table, suffix in zip(tables, ("", "_sized", "_judged"), strict=True):
        with replacing(out / f"trial{suffix}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    return ForecastTrial(*tables)


def _column(settings: TrialSettings, images: ImageSet, options: dict[str, Any]) -> Names:
    """The group of each image; clusters of similar classes stand in for missing superclasses."""
    if settings.groups != "superclass" or images.superclasses is not None:
        return image_column(settings.data, images, settings.groups)
    features = embed(images, **options)
    clusters = gain_tables.class_groups(features, np.arange(len(features.class_names)))
    return np.array([f"cluster {number + 1}" for number in clusters])[features.labels]


def _leave_outs(images: ImageSet, column: Names) -> dict[str, Mask]:
    """The images of each leave-out; it has several values if one has too few images per class."""
    values = dict(zip(images.ids.tolist(), column.tolist(), strict=True))
    group_of = np.array([*group_classes(values, MAX_LEAVE_OUTS, 1).values()])
    n_groups = 1 + int(group_of.max())
    for width in range(1, n_groups - 1):
        windows = [np.arange(first, first + width) % n_groups for first in range(n_groups)]
        masks = [np.isin(group_of, window) for window in windows]
        counts = [np.unique(images.classes[left], return_counts=True)[1] for left in masks]
        usable = [len(count) > 1 and count.sum() >= MIN_TARGET for count in counts]
        masks, counts = [*compress(masks, usable)], [*compress(counts, usable)]
        if len(masks) > 2 and all(np.median(count) >= 2 for count in counts):
            return {"+".join(np.unique(column[left]).tolist()): left for left in masks}
    problem = f"{n_groups} groups; a trial requires at least 3, with {MIN_TARGET} images"
    remedy = "Store images as SUPERCLASS/CLASS/NAME, add classes, or pass another --column"
    raise error_at(images.name, f"{problem}. {remedy}", n_groups)


def _run_study(
    settings: TrialSettings,
    out: Path,
    number: int,
    views: FeatureViews,
    left: Mask,
    device: str | None,
) -> StudyFolder:
    """Run a study without the left-out images, which its runs also embed, for the truth."""
    rest = views.test.select(~left)
    # Published splits exchange classes one by one; exact ones would take minutes each.
    options = {"n_splits": settings.n_splits, "validation": 0.0, "procedure": "published"}
    splits = SplitSettings.model_validate(options | settings.features)
    progression = build_progression(rest, splits)
    file, path = out / f"{number}.toml", out / str(number)
    write_splits(progression, out / f"{number}.json")
    data, n_train = Path(settings.data).expanduser(), min(len(split.train) for split in progression)
    name = str(data.resolve()) if data.exists() else settings.data
    tables = {
        "data": {"name": name, "skip_corrupt": True},
        "seeds": list(range(settings.seeds)),
        "splits": {"file": f"{number}.json"},
        "model": settings.features | {"views": N_VIEWS},
        "train": {"epochs": settings.epochs, "batch_size": min(112, 2 * max(2, n_train // 2))},
        "methods": {name: {} for name in (*settings.methods, BASELINE)},
    }
    write_text(file, tomli_w.dumps(tables))
    execute = partial(_train_and_embed, left_out=views.test.ids[left])
    status = run_study(read_study(file), path, device=device, execute=execute)
    if status.failed:
        command = f"`oodml study status {path}`"
        raise error_at(path, f"{len(status.failed)} runs failed; {command} lists the reasons")
    return replace(read_folder(path), features=rest, progression=progression)


def _train_and_embed(run: Run, context: Context, folder: Path, left_out: Names) -> pd.DataFrame:
    """Execute a run of which only the embeddings are used; it measures Recall@1."""
    assert isinstance(run.model, HeadSettings)
    inputs = CachedFeatures(run.model, context.images, context.device)
    for view in (None, *range(run.model.views)):
        inputs.features(view)  # of all images, under their own classes
    names = np.where(np.isin(context.images.ids, left_out), LEFT_OUT, context.images.classes)
    inputs.images = replace(context.images, classes=names, superclasses=None)
    with context.open_log() as log:
        model, _ = train_run(run, context, log, inputs)
    test = inputs.embed(model, (*run.split.test, LEFT_OUT))
    test.save(folder / "vectors.npz")
    return pd.DataFrame(
        metric_rows(Stage.ZERO_SHOT, {"recall@1": gain_tables.nearest_recall(test)})
    )


def _forecast_left_out(
    name: str, folder: StudyFolder, views: FeatureViews, left: Mask
) -> tuple[pd.DataFrame, ...]:
    """The rows of one leave-out: without and with the number of classes given, and judged."""
    study = open_forecast_study(folder, views.select(np.flatnonzero(~left)))
    guess = _mean_of_splits(folder)
    plain, sized = (Forecaster(study.small, given) for given in (False, True))
    parts: list[tuple[pd.DataFrame, ...]] = []
    for target, rows in _targets(views.test, left):
        truth = _truth(folder, views.test, rows)
        n_classes = len(np.unique(views.test.labels[rows]))
        own = study.signals(views.select(rows))
        blind = plain.forecast(own)
        forecasts = (blind, sized.forecast(replace(own, classes=float(n_classes))))
        tables = [_rows(one, truth, study.small, len(rows)) for one in forecasts]
        tables = [one.assign(mean_of_splits=one["method"].map(guess)) for one in tables]
        tables.append(_judge(blind, folder, views, rows))
        about: dict[str, Any] = {"leave": name, "target": target, "n_classes": n_classes}
        parts.append(tuple(one.assign(**about) for one in tables))
    whole, given, simulated = (pd.concat(part) for part in zip(*parts, strict=True))
    return whole[[*COLUMNS]], given[[*COLUMNS]], simulated


def _judge(
    forecast: TargetForecast, folder: StudyFolder, views: FeatureViews, rows: Rows
) -> pd.DataFrame:
    """Simulate judging queries of a target, with the true classes as answers."""
    generator, table = np.random.default_rng(0), []
    priors = forecast_values(forecast)
    last = {method: correct for method, _, correct in _run_hits(folder, views.test, rows)}
    for method, correct in last.items():
        truth = float(np.nanmean(correct))
        for count in (count for count in JUDGED if count < len(rows)):
            values = []
            for _ in range(JUDGE_DRAWS):
                queries, chances = sample_queries(forecast.correct, count, generator)
                judged = judged_recall(forecast.correct, queries, correct[queries], chances)
                values.append(combine(judged, priors[method]))
            value, low, high = np.array(values).T
            inside = (low <= truth) & (truth <= high)
            row = {"method": method, "queries": count, "n_images": len(rows), "truth": truth}
            row["error"] = np.abs(value - truth).mean()
            table.append(row | {"coverage_90": inside.mean(), "half_90": (high - low).mean() / 2})
    return pd.DataFrame(table)


def _rows(
    forecast: TargetForecast, truth: dict[str, float], study: SmallTargets, n_images: int
) -> pd.DataFrame:
    """The forecast of each method beside its value."""
    table = forecast.methods.assign(n_images=n_images)
    table["truth"] = table["method"].map(truth)
    frozen = table.set_index("method").loc[BASELINE]
    table["gain_expected"] = table["expected"] - frozen["expected"]
    table["gain"] = table["truth"] - frozen["truth"]
    small = study.values.dropna()
    ratio = study.sizes["images"][small.index] / n_images
    near = np.exp(-((np.log(ratio) / np.log(2)) ** 2) / 2) + 1e-6
    matched = small.mul(near, axis=0).sum() / near.sum()
    table["size_matched_mean"] = table["method"].map(matched.to_dict())
    return table


def _targets(vectors: VectorSet, left: Mask) -> Iterator[tuple[str, Rows]]:
    """The name and the rows of each target: all left-out images, and those of single superclasses
    and of random classes."""
    classes = np.unique(vectors.classes[left])
    sets = {"whole": classes}
    superclasses = sorted({vectors.superclass_of.get(name, "") for name in classes.tolist()})
    for name in superclasses if len(superclasses) > 1 else ():
        sets[name] = np.unique(vectors.classes[vectors.superclasses == name])
    generator = np.random.default_rng(0)
    for count in RANDOM_CLASSES:
        if count < len(classes):
            sets[f"{count} random classes"] = generator.choice(classes, count, replace=False)
    for name, chosen in sets.items():
        rows = np.flatnonzero(left & np.isin(vectors.classes, chosen))
        if len(rows) >= MIN_TARGET and len(chosen) > 1:
            yield name, rows


def _run_hits(
    folder: StudyFolder, vectors: VectorSet, rows: Rows
) -> Iterator[tuple[str, int, Float[np.ndarray, " n"]]]:
    """The method and the split of each run that embedded some images, and their hits."""
    ids, labels, every = vectors.ids[rows].tolist(), vectors.labels[rows], np.arange(len(rows))
    for method, split, own in gain_tables.run_vectors(folder):
        row_of = {name: row for row, name in enumerate(own.ids.tolist())}
        if row_of.keys() >= set(ids):
            unit = unit_vectors(own.vectors[[row_of[name] for name in ids]])
            yield method, split, gain_tables.hits(labels, every, nearest_neighbor(unit, every))


def _truth(folder: StudyFolder, vectors: VectorSet, rows: Rows) -> dict[str, float]:
    """Recall@1 of each method on some images, as a mean over splits and seeds."""
    values = [(m, split, np.nanmean(hit)) for m, split, hit in _run_hits(folder, vectors, rows)]
    table = pd.DataFrame(values, columns=["method", "split", "value"])
    return dict(table.groupby(["method", "split"])["value"].mean().groupby("method").mean())


def _mean_of_splits(folder: StudyFolder) -> dict[str, float]:
    """Recall@1 of each method on the test classes of the study, as a mean over splits."""
    features, progression = gain_tables.require_features(folder)
    values = []
    for split in progression:
        own = replace(folder, progression=replace(progression, splits=(split,)))
        rows = np.flatnonzero(np.isin(features.classes, split.test))
        values.append(_truth(own, features, rows))
    return dict(pd.DataFrame(values).mean())


def describe_trial(trial: ForecastTrial) -> str:
    """The table of scores in points of Recall@1, and the comparisons with the guesses."""
    named = {"without labels": trial.rows, "classes given": trial.sized}
    scores, lines = {name: score_forecasts(rows) for name, rows in named.items()}, []
    plain = trial.rows.drop(columns=["low_80", "high_80", "low_95", "high_95"])
    by_target = plain.set_index(["leave", "target"])
    for name in ("mean_of_splits", "size_matched_mean"):
        own = by_target[name][(by_target["method"] == BASELINE).to_numpy()]
        gain = (by_target[name] - own.reindex(by_target.index)).to_numpy()
        scores[name] = score_forecasts(plain.assign(expected=plain[name], gain_expected=gain))
        value, low, high = (100 * number for number in _error_difference(trial.rows, name))
        guess, interval = name.replace("_", " "), f"95% interval {low:.1f} to {high:.1f}"
        than = f"points smaller than that of the {guess} ({interval})"
        lines.append(f"The error is {value:.1f} {than}.")
    table = pd.DataFrame(scores).T.rename(index=lambda name: name.replace("_", " "))
    lines = [(100 * table).to_string(na_rep="", float_format="{:.1f}".format), *lines]
    frozen = trial.rows.assign(expected=(trial.rows["method"] == BASELINE).astype(float))
    regret = score_forecasts(frozen)["regret"]
    lines.append(f"Regret of always choosing {BASELINE}: {100 * regret:.1f}.")
    for count, judged in () if trial.judged.empty else trial.judged.groupby("queries"):
        row = judged.groupby("leave")[["error", "coverage_90", "half_90"]].mean().mean()
        lines.append(
            f"With {count:.0f} judged queries: error {100 * row['error']:.1f}, coverage of the 90% "
            f"interval {100 * row['coverage_90']:.0f}%, half width {100 * row['half_90']:.1f}."
        )
    return "\n".join(lines)


def _error_difference(
    rows: pd.DataFrame, other: str, seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """How much smaller the error is than another column's; the interval resamples leave-outs."""
    ours, theirs = ((rows["truth"] - rows[name]).abs() for name in ("expected", other))
    means = (theirs - ours).groupby(rows["leave"]).mean().to_numpy()
    picks = np.random.default_rng(seed).integers(len(means), size=(resamples, len(means)))
    low, high = np.quantile(means[picks].mean(axis=1), [0.025, 0.975])
    return float(means.mean()), float(low), float(high)
