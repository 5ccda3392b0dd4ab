"""Forecasts of what the methods of a study will score on an unlabeled target."""

from dataclasses import dataclass

import pandas as pd

from oodml.analysis.forecast import clip_forecasts, forecast_methods, leave_splits_out
from oodml.analysis.formatting import format_number, format_percent, format_points
from oodml.analysis.leave_out import MIN_GROUPS, calibration, nested_choice, widen
from oodml.analysis.superclasses import leave_superclasses_out, superclass_measures
from oodml.analysis.table import standard_split
from oodml.analysis.target_shift import (
    UNLABELED,
    measures,
    principal_axes,
    target_shift,
)
from oodml.errors import OodmlError, unknown
from oodml.evaluate.superclasses import superclass_recall
from oodml.report.folder import StudyFolder
from oodml.results.schema import Stage
from oodml.vectors import VectorSet

SUPERCLASS_METRIC = "recall@1"
RECALL_COLUMNS = ("run", "method", "split", "seed", "superclass", "value")


@dataclass(frozen=True)
class LeftOut:
    """Forecasts of left-out splits or superclasses, and their calibration.

    Attributes:
        kind: "split" or "superclass".
        calibration: the result of `calibration`, "flat" last.
        chosen: the calibration of `nested_choice`, or None with too few groups.
    """

    kind: str
    metric: str
    forecasts: pd.DataFrame
    calibration: pd.DataFrame
    chosen: "pd.Series[float] | None" = None

    @property
    def best(self) -> "pd.Series[float]":
        """The line with the smallest error."""
        return self.calibration.iloc[0]

    @property
    def flat(self) -> "pd.Series[float]":
        """The mean of the points, which does not use shift."""
        return self.calibration[self.calibration["fit"] == "flat"].iloc[0]

    @property
    def error(self) -> float:
        """The error to expect from the best line."""
        return float(self.best["error"] if self.chosen is None else self.chosen["error"])

    @property
    def shift_helps(self) -> bool:
        """Whether lines over shift have a smaller error than the mean of the points."""
        return self.error < float(self.flat["error"])

    def drawn(self) -> pd.DataFrame:
        """The forecasts of the better fit of each measure, widened and clipped, with the kind."""
        parts: dict[str, pd.DataFrame] = {}
        for row in self.calibration[self.calibration["fit"] != "flat"].to_dict("records"):
            rows = self.forecasts.query("fit == @row['fit'] and measure == @row['measure']")
            parts.setdefault(str(row["measure"]), clip_forecasts(widen(rows), self.metric))
        return pd.concat(parts.values()).assign(kind=self.kind, metric=self.metric)

    def summary(self) -> pd.DataFrame:
        """The calibration with the row of `chosen` last, and the kind."""
        rows = self.calibration
        if self.chosen is not None:
            rows = pd.concat([rows, self.chosen.to_frame().T], ignore_index=True)
        return rows.assign(kind=self.kind, metric=self.metric, description=describe_left_out(self))


@dataclass(frozen=True)
class TargetForecast:
    """The forecast for a target.

    Attributes:
        shift: the shift of the target by `measure`.
        measure: the unlabeled measure with the smallest error on left-out splits.
        split: the split whose training classes the shift refers to.
        range: the smallest and the largest shift of the study's splits.
        splits: the forecasts of left-out splits, which determine the intervals.
        superclasses: the same for superclasses, if the data have them.
    """

    shift: float
    measure: str
    split: str
    range: tuple[float, float]
    methods: pd.DataFrame
    splits: LeftOut
    superclasses: LeftOut | None = None

    @property
    def outside(self) -> bool:
        """Whether the target is outside the study's range, so that a line extrapolates."""
        return not self.range[0] <= self.shift <= self.range[1]


def forecast_target(
    folder: StudyFolder, target: VectorSet, metric: str = "recall@1", split: str | None = None
) -> TargetForecast:
    """Measure a target's shift and forecast the value of every method, baselines included.

    Methods are forecast by lines over shift where those have a smaller error on left-out splits
    than the mean over splits, and by the mean otherwise.

    Args:
        folder: the study.
        target: features from the study's backbone; their classes are not used.
        metric: the metric to forecast.
        split: measure shift to the training classes of this split; by default the standard split,
            or the easiest without one.

    Raises:
        OodmlError: if features or splits are missing, or no method has enough splits.
    """
    features, progression = folder.features, folder.progression
    if features is None or progression is None:
        raise OodmlError(
            f"{folder.path}: a forecast requires splits.json and features.npz",
            location=str(folder.path),
        )
    steps = {str(one.step): one for one in progression}
    start = split or standard_split(steps) or str(progression.splits[0].step)
    if start not in steps:
        raise unknown("split", start, steps, str(folder.path))
    axes = principal_axes(features)
    flat, flat_target = axes.project(features), axes.project(target).vectors
    known = measures(progression, flat, len(target))
    forecasts = leave_splits_out(folder.table, known[[*UNLABELED]], metric)
    left_out = _calibrated("split", metric, forecasts)
    if left_out is None:
        raise OodmlError(
            f"{folder.path}: a forecast requires a method with results on at least {MIN_GROUPS} "
            "splits",
            location=str(folder.path),
        )
    measure = str(left_out.best["measure"])
    at = target_shift(steps[start], flat, flat_target)[measure]
    line = left_out.best if left_out.shift_helps else left_out.flat
    widening = (float(line["widening_80"]), float(line["widening_95"]))
    return TargetForecast(
        at,
        measure,
        start,
        (float(known[measure].min()), float(known[measure].max())),
        forecast_methods(folder.table, known[measure], at, metric, widening, str(line["fit"])),
        left_out,
        _leave_superclasses_out(folder, superclass_recalls(folder), flat)
        if metric == SUPERCLASS_METRIC
        else None,
    )


def left_out_forecasts(
    folder: StudyFolder, recalls: pd.DataFrame, metric: str = "recall@1"
) -> list[LeftOut]:
    """Forecasts of left-out splits, and of left-out superclasses (by Recall@1), where possible.

    Args:
        folder: the study.
        recalls: the result of `superclass_recalls`.
        metric: the metric to forecast for splits.
    """
    if folder.features is None or folder.progression is None:
        return []
    flat = principal_axes(folder.features).project(folder.features)
    forecasts = leave_splits_out(folder.table, measures(folder.progression, flat), metric)
    both = (
        _calibrated("split", metric, forecasts),
        _leave_superclasses_out(folder, recalls, flat),
    )
    return [one for one in both if one is not None]


def superclass_recalls(folder: StudyFolder) -> pd.DataFrame:
    """Recall@1 of each superclass in each run: its queries among all test images.

    Runs write it to `superclasses.parquet`; for runs of earlier versions, which did not, it is
    computed from their vectors.

    Returns:
        One row per run and superclass; empty if the data have no superclasses.
    """
    parts = []
    table = folder.table
    runs = table[table["stage"] == Stage.ZERO_SHOT].drop_duplicates("run")
    for row in runs[["run", "method", "split", "seed"]].to_dict("records"):
        recalls = _run_recalls(folder, str(row["run"]))
        if len(recalls):
            parts.append(recalls.assign(**{str(key): value for key, value in row.items()}))
    if not parts:
        return pd.DataFrame(columns=[*RECALL_COLUMNS])
    order = ["method", "split", "seed", "superclass"]
    return pd.concat(parts)[[*RECALL_COLUMNS]].sort_values(order).reset_index(drop=True)


def _run_recalls(folder: StudyFolder, run: str) -> pd.DataFrame:
    path = folder.path / "runs" / run / "superclasses.parquet"
    if path.exists():
        return pd.read_parquet(path)
    if folder.features is None or folder.features.superclasses is None:
        return pd.DataFrame()
    vectors = folder.vectors(run)
    try:
        return pd.DataFrame() if vectors is None else superclass_recall(vectors)
    except OodmlError:  # a zero vector has no direction, or no image has a positive
        return pd.DataFrame()


def _calibrated(kind: str, metric: str, forecasts: pd.DataFrame) -> LeftOut | None:
    """The forecasts with their calibration; None if no line could be fitted."""
    table = calibration(forecasts)
    if table.empty or table["fit"].iloc[0] == "flat":
        return None
    chosen = calibration(nested_choice(forecasts))
    return LeftOut(kind, metric, forecasts, table, None if chosen.empty else chosen.iloc[0])


def _leave_superclasses_out(
    folder: StudyFolder, recalls: pd.DataFrame, flat: VectorSet
) -> LeftOut | None:
    if folder.progression is None or recalls.empty:
        return None
    shift = superclass_measures(folder.progression, flat)
    if shift.empty:
        return None
    forecasts = leave_superclasses_out(recalls, shift)
    return _calibrated("superclass", SUPERCLASS_METRIC, forecasts)


def describe_left_out(left_out: LeftOut) -> str:
    """How accurate the forecasts of left-out groups were, in two or three sentences."""
    best, chosen = left_out.best, left_out.chosen
    groups = "splits" if left_out.kind == "split" else "superclasses"
    share = float(best["coverage_80"] if chosen is None else chosen["widened_coverage_80"])
    text = (
        f"With {groups} left out, the 80% interval covered {format_percent(share, 0)} of the "
        f"{best['forecasts']} values"
    )
    if share < 0.7:
        text += ", fewer than it should"
    elif share > 0.9:
        text += ", more than it should: it is too wide"
    factor = format_number(float(best["widening_80"]), 2)
    if chosen is None:
        widened = f" It is {factor} times as wide in forecasts." if best["widening_80"] > 1 else ""
        text += f".{widened} The line was selected on the same {groups}; at least five {groups} "
        text += "are needed to separate selection from evaluation."
    else:
        widened = f", widened by {factor}" if best["widening_80"] > 1 else ""
        text += f". Line and interval{widened} were selected on the other {groups} alone."
    line, mean = (
        f"{format_points(value)} points" for value in (left_out.error, left_out.flat["error"])
    )
    if left_out.shift_helps:
        return f"{text} The mean error is {line}; without using shift it is {mean}."
    return (
        f"{text} Shift does not improve the forecast here: lines have a mean error of {line}, and "
        f"the mean of the other {groups} has {mean}."
    )
