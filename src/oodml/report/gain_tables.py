"""The level of the frozen network and the gain of training, along a study's progression."""

from contextlib import suppress

import numpy as np
import pandas as pd

from oodml.analysis.forecast import score_forecasts
from oodml.analysis.formatting import format_points
from oodml.analysis.intervals import aggregated_generalization_score, student_interval
from oodml.analysis.level_and_gain import divide_loss, equal_difficulty, fit_gain
from oodml.analysis.small_targets import ALL_CLASSES
from oodml.analysis.table import zero_shot
from oodml.errors import OodmlError
from oodml.report.folder import StudyFolder
from oodml.report.study_targets import (
    draw_targets,
    frozen_hits,
    membership,
    method_hits,
    nearest_recall,
    require_features,
)
from oodml.results.schema import baselines_of

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

    Returns:
        `value` is Recall@1 of the method, `level` that of the features that shift is measured on,
        and `gain` their difference, with its 95% interval over seeds. Empty if the study lacks
        features or a second split.
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

    Args:
        folder: the study.
        table: the result of `gains`, which receives the column `equal`: the value at the mean
            difficulty of the splits.

    Returns:
        One row per method: `raw`, `difficulty` and `shift` with the bounds of 95% intervals over
        superclasses, `other`, the part of `raw` that the fit explains by neither, and `ags_gain`.
    """
    table["equal"] = np.nan
    draws = []
    with suppress(OodmlError):
        features, progression = require_features(folder)
        draws = [draw for draw in draw_targets(folder) if draw.split != ALL_CLASSES]
    if not draws:
        return pd.DataFrame()
    shift = np.array([progression[draw.split].shift for draw in draws])
    groups = membership(draws)
    correct = [frozen_hits(features, draw) for draw in draws]
    level = np.array([np.nanmean(own[::2]) for own in correct])
    base = np.array([np.nanmean(own[1::2]) for own in correct])  # other queries, other noise
    runs = method_hits(folder, draws)
    rows = []
    for method, own in table.groupby("method"):
        if method not in runs or own["shift"].nunique() < 2:
            continue
        hit = runs[str(method)]
        gain = np.array([np.nanmean(hit[row][1::2]) for row in range(len(draws))]) - base
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
    raw, difficulty, shift, other = (
        format_points(table[name].mean()) for name in ("raw", "difficulty", "shift", "other")
    )
    text = (
        f"From the easiest to the hardest split, trained methods lose {raw} points of Recall@1 "
        f"on average: {difficulty} because the test classes become more difficult for any network, "
        f"{shift} because training helps less on classes unlike the training classes, and {other} "
        "for reasons that small targets do not show"
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
