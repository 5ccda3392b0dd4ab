"""Forecasting what the methods of a study will score on a target without labels."""

from dataclasses import dataclass

import pandas as pd

from oodml.analysis.forecast import LEAST, calibration, forecast_methods, leave_splits_out
from oodml.analysis.table import standard_split, trained
from oodml.analysis.target_shift import UNLABELLED, measures, principal_axes, target_shift
from oodml.errors import OodmlError, unknown
from oodml.report.folder import StudyFolder
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class TargetForecast:
    """What to expect on a target.

    shift: of the target, by `measure`, the unlabelled measure that forecasts left-out splits
    best. split: whose train classes it is measured against. range: the study's shifts.
    methods: `forecast_methods`. calibration: the row of `calibration` behind the intervals.
    """

    shift: float
    measure: str
    split: str
    range: tuple[float, float]
    methods: pd.DataFrame
    calibration: "pd.Series[float]"

    @property
    def outside(self) -> bool:
        """Whether the target lies outside the study's range, where a line is a guess."""
        return not self.range[0] <= self.shift <= self.range[1]


def forecast_target(
    folder: StudyFolder, target: VectorSet, metric: str = "recall@1", split: str | None = None
) -> TargetForecast:
    """Measure a target's shift and read the methods' expected values off the study's splits.

    target: features under the study's backbone; its classes are not looked at. split: whose
    train classes to measure against; the standard (else the easiest) split by default.
    """
    features, progression = folder.features, folder.progression
    if features is None or progression is None:
        raise OodmlError(f"{folder.path}: a forecast needs splits.json and features.npz")
    runs = trained(folder.table)
    steps = {str(one.step): one for one in progression}
    start = split or standard_split(steps) or str(progression[0].step)
    if start not in steps:
        raise unknown("split", start, steps, str(folder.path))
    axes = principal_axes(features)
    flat, flat_target = axes.project(features), axes.project(target).vectors
    known = measures(progression, flat, len(target))
    checked = calibration(leave_splits_out(runs, known[[*UNLABELLED]], metric))
    if checked.empty:
        raise OodmlError(f"{folder.path}: a forecast needs methods on at least {LEAST} splits")
    best = checked.iloc[0]
    name = str(best["measure"])
    at = target_shift(steps[start], flat, flat_target)[name]
    widening = (float(best["widening_80"]), float(best["widening_95"]))
    return TargetForecast(
        at,
        name,
        start,
        (float(known[name].min()), float(known[name].max())),
        forecast_methods(runs, known[name], at, metric, widening),
        best,
    )


def left_out_forecasts(
    folder: StudyFolder, metric: str = "recall@1"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`leave_splits_out` and `calibration` by every measure; empty where the folder lacks data."""
    if folder.features is None or folder.progression is None or len(folder.progression) < LEAST:
        return pd.DataFrame(), pd.DataFrame()
    flat = principal_axes(folder.features).project(folder.features)
    runs = trained(folder.table)
    if runs.empty:
        return pd.DataFrame(), pd.DataFrame()
    left_out = leave_splits_out(runs, measures(folder.progression, flat), metric)
    return left_out, calibration(left_out)
