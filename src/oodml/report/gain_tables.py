"""Level and gain of training along a progression, and the small targets that both are fit on."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.analysis import small_targets
from oodml.analysis.forecast import score_forecasts
from oodml.analysis.formatting import format_points
from oodml.analysis.intervals import aggregated_generalization_score, student_interval
from oodml.analysis.level_and_gain import divide_loss, equal_difficulty, fit_gain
from oodml.analysis.small_targets import ALL_CLASSES, Draw
from oodml.analysis.table import zero_shot, zero_shot_runs
from oodml.errors import OodmlError, error_at
from oodml.evaluate.clustering import kmeans
from oodml.evaluate.neighbors import nearest_neighbor, unit_vectors
from oodml.report.folder import StudyFolder
from oodml.results.schema import baselines_of
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet

MAX_CLUSTERS = 8
Rows = Int[np.ndarray, " q"]
Hits = Float[np.ndarray, " q"]
METRIC = "recall@1"
GAIN_COLUMNS = (
    "method", "split", "shift", "value", "level", "gain", "gain_low", "gain_high",
)  # fmt: skip
LOSS_COLUMNS = (
    "method", "raw", "difficulty", "difficulty_low", "difficulty_high", "shift", "shift_low",
    "shift_high", "other", "ags_gain",
)  # fmt: skip


def gains(folder: StudyFolder) -> pd.DataFrame:
    """The level and the gain of each trained method on each split, by ascending shift.

    `value` is Recall@1 of the method, `level` that of the features that shift is measured on, and
    `gain` their difference, with its 95% interval over seeds. Empty if the study lacks features or
    a second split.
    """
    empty = pd.DataFrame(columns=[*GAIN_COLUMNS])
    if folder.features is None or folder.progression is None or len(folder.progression) < 2:
        return empty
    if METRIC not in set(folder.table["metric"]):
        return empty
    wide = zero_shot(folder.table, METRIC).drop(index=[*baselines_of(folder.table)], level="method")
    rows = []
    for split in folder.progression:
        name, level = str(split.step), nearest_recall(folder.features.subset(split.test))
        for method, values in wide.get(name, pd.Series(dtype=float)).dropna().groupby("method"):
            mean, low, high, _ = student_interval(values - level)
            rows.append((method, name, split.shift, mean + level, level, mean, low, high))
    return pd.DataFrame(rows, columns=empty.columns).sort_values(["method", "shift"])


def losses(folder: StudyFolder, table: pd.DataFrame) -> pd.DataFrame:
    """The loss of each trained method along the progression, divided into difficulty and shift.

    `other` is the part of `raw` that the fit does not explain; intervals are over superclasses. The
    result of `gains` receives the column `equal`, the value at the mean difficulty of the splits.
    """
    table["equal"] = np.nan
    draws = []
    with suppress(OodmlError):
        features, progression = require_features(folder)
        draws = [draw for draw in draw_targets(folder) if draw.split != ALL_CLASSES]
    if not draws:
        return pd.DataFrame()
    shift, groups = np.array([progression[draw.split].shift for draw in draws]), membership(draws)
    # Gains are of other queries than levels, so that their noise is independent.
    odd = [replace(draw, queries=draw.queries[1::2]) for draw in draws]
    runs, rows, correct, unit = method_hits(folder, odd), [], [], unit_vectors(features.vectors)
    for draw in draws:
        near = nearest_neighbor(unit[draw.rows], draw.queries)
        correct.append(hits(features.labels[draw.rows], draw.queries, near))
    level, base = (np.array([np.nanmean(own[i::2]) for own in correct]) for i in (0, 1))
    for method, own in table.groupby("method"):
        if method not in runs or own["shift"].nunique() < 2:
            continue
        hit = runs[str(method)].items()
        gain = np.array([np.nanmean(own) for _, own in sorted(hit)]) - base
        model = fit_gain(gain, shift, level, np.ones(len(gain)))
        loss = divide_loss(gain, shift, level, groups, own.iloc[[0, -1]])
        equal = equal_difficulty(own["value"].to_numpy(), own["level"].to_numpy(), model.level)
        table.loc[own.index, "equal"] = equal
        other = loss.raw - loss.difficulty.value - loss.shift.value
        ags = aggregated_generalization_score(own["shift"], own["gain"])
        rows.append((method, loss.raw, *loss.difficulty, *loss.shift, other, ags))
    return pd.DataFrame(rows, columns=[*LOSS_COLUMNS]) if rows else pd.DataFrame()


def describe_losses(table: pd.DataFrame) -> str:
    """How much of the loss along the progression is difficulty, and how much shift."""
    if table.empty:
        return ""
    names = ("raw", "difficulty", "shift", "other")
    raw, difficulty, shift, other = (format_points(table[name].mean()) for name in names)
    text = (
        f"From the easiest to the hardest split, trained methods lose {raw} points of Recall@1 "
        f"on average: {difficulty} because the test classes become more difficult for any network, "
        f"{shift} because training helps less on classes unlike the training classes, and {other} "
        "that neither explains"
    )
    if (table["ags_gain"] <= 0).all():
        return f"{text}. On average over the progression, no method gains over the frozen network."
    return f"{text}."


def trial_scores(folder: StudyFolder) -> pd.DataFrame:
    """The scores of the trial of forecasts in the study's folder, if there is one."""
    files = {"without labels": "trial", "number of classes given": "trial_sized"}
    paths = {label: folder.path / f"{name}.parquet" for label, name in files.items()}
    return pd.DataFrame(
        {"forecast": label} | score_forecasts(pd.read_parquet(path))
        for label, path in paths.items()
        if path.exists()
    )


def require_features(folder: StudyFolder) -> tuple[VectorSet, Progression]:
    """The study's features and splits; an error if one is missing."""
    if folder.features is None or folder.progression is None:
        raise error_at(folder.path, "a forecast requires splits.json and features.npz")
    return folder.features, folder.progression


def draw_targets(folder: StudyFolder, seed: int = 0) -> list[Draw]:
    """Small targets among the test classes of a study's splits; an error without any."""
    features, progression = require_features(folder)
    position = {name: label for label, name in enumerate(features.class_names)}
    tests = [np.array([position[name] for name in split.test]) for split in progression]
    groups = class_groups(features, np.unique(np.concatenate(tests)))
    generator = np.random.default_rng(seed)
    draws = small_targets.draw_small_targets(features.labels, groups, tests, generator)
    if not draws:
        raise error_at(folder.path, "the test classes have too few images for a forecast")
    return draws


def class_groups(features: VectorSet, tested: Int[np.ndarray, " t"]) -> NDArray[np.int64]:
    """[c] the group of each class: its superclass, or a cluster of similar classes.

    Clusters are used unless at least two superclasses have at least 5 classes that are tested on
    some split.
    """
    names, superclasses = features.class_names, features.superclass_of
    counts = Counter(superclasses.get(names[label], "") for label in tested.tolist())
    if sum(count >= small_targets.MIN_CLASSES for count in counts.values()) < 2:
        count = max(min(2, len(names) // 3), min(MAX_CLUSTERS, len(names) // 6), 1)
        return kmeans(features.class_means(), count, seed=0)
    groups = small_targets.group_classes(superclasses)
    return np.array([groups[name] for name in names])


def membership(draws: Sequence[Draw]) -> NDArray[np.bool_]:
    """[t g] which groups each target has classes of."""
    groups = np.zeros((len(draws), 1 + max(max(draw.groups) for draw in draws)), dtype=np.bool_)
    for row, draw in enumerate(draws):
        groups[row, list(draw.groups)] = True
    return groups


def hits(labels: Int[np.ndarray, " n"], queries: Rows, neighbors: Rows) -> Hits:
    """Whether each query's neighbor is of its class; NaN for a query without a partner."""
    correct = np.asarray(labels[neighbors] == labels[queries], dtype=np.float64)
    correct[np.bincount(labels)[labels[queries]] < 2] = np.nan
    return correct


def nearest_recall(vectors: VectorSet) -> float:
    """Recall@1 (cosine) of all images; NaN if none has a partner."""
    near = nearest_neighbor(unit_vectors(vectors.vectors))
    return float(np.nanmean(hits(vectors.labels, np.arange(len(near)), near)))


def run_vectors(folder: StudyFolder) -> Iterator[tuple[str, int, VectorSet]]:
    """The method, the position of the split, and the test embeddings of each run."""
    position = {str(split.step): index for index, split in enumerate(folder.progression or ())}
    for row in zero_shot_runs(folder.table).to_dict("records"):
        vectors = folder.vectors(str(row["run"])) if str(row["split"]) in position else None
        if vectors is not None:
            yield str(row["method"]), position[str(row["split"])], vectors


def method_hits(folder: StudyFolder, draws: Sequence[Draw]) -> dict[str, dict[int, Hits]]:
    """How often the neighbor of each query is of its class, by method and position of the target.

    A mean over seeds. Targets of all classes and methods that lack a split are left out.
    """
    features, _ = require_features(folder)
    sums: dict[str, dict[int, list[Hits]]] = {}
    for method, split, vectors in run_vectors(folder):
        position = pd.Index(vectors.ids).get_indexer(pd.Index(features.ids))
        unit = unit_vectors(vectors.vectors)
        for index, draw in enumerate(draws):
            if draw.split == split:
                near = nearest_neighbor(unit[position[draw.rows]], draw.queries)
                own = hits(features.labels[draw.rows], draw.queries, near)
                sums.setdefault(method, {}).setdefault(index, []).append(own)
    tested = sum(draw.split != ALL_CLASSES for draw in draws)
    return {
        method: {index: np.mean(seeds, axis=0) for index, seeds in by_index.items()}
        for method, by_index in sums.items()
        if len(by_index) == tested
    }


def method_values(
    correct: Sequence[Hits], methods: Mapping[str, Mapping[int, Hits]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Recall@1 of each method on each small target, and the variance of its gain over queries, from
    the hits of the frozen network and of `method_hits`."""
    values, spread = (
        {method: {row: f(row, own) for row, own in hit.items()} for method, hit in methods.items()}
        for f in (lambda _, own: np.nanmean(own), lambda row, own: np.nanvar(own - correct[row]))
    )
    rows = range(len(correct))
    return pd.DataFrame(values).reindex(rows), pd.DataFrame(spread).reindex(rows)
