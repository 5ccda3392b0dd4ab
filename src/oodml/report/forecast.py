"""Forecasting what the methods of a study will score on a target without labels."""

from dataclasses import dataclass

import pandas as pd

from oodml.analysis.forecast import forecast_methods, leave_splits_out, within_limits
from oodml.analysis.leave_out import LEAST, calibration, chosen_anew, widened
from oodml.analysis.superclasses import leave_superclasses_out, superclass_measures
from oodml.analysis.table import standard_split, trained
from oodml.analysis.target_shift import UNLABELLED, Axes, measures, principal_axes, target_shift
from oodml.errors import OodmlError, unknown
from oodml.report.folder import StudyFolder
from oodml.report.superclasses import superclass_recalls
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class TargetForecast:
    """What to expect on a target.

    shift: of the target, by `measure`, the unlabelled measure that forecasts left-out splits
    best. split: whose train classes it is measured against. range: the study's shifts.
    methods: `forecast_methods`. splits: how left-out ones were forecast, behind the intervals.
    superclasses: the same of superclasses, where the data have them.
    """

    shift: float
    measure: str
    split: str
    range: tuple[float, float]
    methods: pd.DataFrame
    splits: "LeftOut"
    superclasses: "LeftOut | None" = None

    @property
    def outside(self) -> bool:
        """Whether the target lies outside the study's range, where a line is a guess."""
        return not self.range[0] <= self.shift <= self.range[1]


@dataclass(frozen=True)
class LeftOut:
    """Forecasts of what was left out, and how they did.

    kind: "split" or "superclass". forecasts: of `leave_out`. calibration: of `calibration`.
    metric: what was forecast. chosen: the `calibration` of `chosen_anew`, what the best line
    may be trusted by; None where there are too few groups to know.
    """

    kind: str
    metric: str
    forecasts: pd.DataFrame
    calibration: pd.DataFrame
    chosen: "pd.Series[float] | None" = None

    @property
    def best(self) -> "pd.Series[float]":
        """The row of the calibration whose fit and measure err least."""
        return self.calibration.iloc[0]

    @property
    def flat(self) -> "pd.Series[float]":
        """The row of the plain mean, which asks no shift."""
        return self.calibration[self.calibration["fit"] == "flat"].iloc[0]

    def drawn(self) -> dict[str, pd.DataFrame]:
        """Of each measure the forecasts of its better fit, as they would have been given."""
        found: dict[str, pd.DataFrame] = {}
        for row in self.calibration[self.calibration["fit"] != "flat"].to_dict("records"):
            rows = self.forecasts.query("fit == @row['fit'] and measure == @row['measure']")
            found.setdefault(str(row["measure"]), within_limits(widened(rows), self.metric))
        return found


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
    checked = _checked("split", metric, leave_splits_out(runs, known[[*UNLABELLED]], metric))
    if checked is None:
        raise OodmlError(f"{folder.path}: a forecast needs a method on at least {LEAST} splits")
    best = checked.best
    name = str(best["measure"])
    at = target_shift(steps[start], flat, flat_target)[name]
    widening = (float(best["widening_80"]), float(best["widening_95"]))
    return TargetForecast(
        at,
        name,
        start,
        (float(known[name].min()), float(known[name].max())),
        forecast_methods(runs, known[name], at, metric, widening, str(best["fit"])),
        checked,
        _superclasses(folder, flat) if metric == "recall@1" else None,
    )


def left_out_forecasts(folder: StudyFolder, metric: str = "recall@1") -> list[LeftOut]:
    """Splits left out, and superclasses (their Recall@1); of either nothing where it cannot be."""
    if folder.features is None or folder.progression is None:
        return []
    runs, flat = trained(folder.table), _axes(folder).project(folder.features)
    if runs.empty:
        return []
    found = leave_splits_out(runs, measures(folder.progression, flat), metric)
    both = (_checked("split", metric, found), _superclasses(folder, flat))
    return [one for one in both if one is not None]


def _checked(kind: str, metric: str, forecasts: pd.DataFrame) -> LeftOut | None:
    """How forecasts did; None where no line could be left to forecast by."""
    checked = calibration(forecasts)
    if checked.empty or checked["fit"].iloc[0] == "flat":
        return None
    chosen = calibration(chosen_anew(forecasts))
    return LeftOut(kind, metric, forecasts, checked, None if chosen.empty else chosen.iloc[0])


def _axes(folder: StudyFolder) -> Axes:
    assert folder.features is not None
    return principal_axes(folder.features)


def _superclasses(folder: StudyFolder, flat: VectorSet) -> LeftOut | None:
    if folder.progression is None:
        return None
    recalls = trained(superclass_recalls(folder))
    shift = superclass_measures(folder.progression, flat)
    if recalls.empty or shift.empty:
        return None
    return _checked("superclass", "recall@1", leave_superclasses_out(recalls, shift))


def told(found: LeftOut) -> str:
    """How well left-out groups were forecast, in words."""
    best, chosen = found.best, found.chosen
    several = "splits" if found.kind == "split" else "superclasses"
    share = float(best["coverage_80"] if chosen is None else chosen["kept_80"])
    promise = f"the 80% interval held {100 * share:.0f}% of the {best['forecasts']} truths"
    wider = best["widening_80"] > 1
    if chosen is not None:
        promise += f" when the other {several} alone chose the line"
        promise += f" and widened its interval (now by {best['widening_80']:.2f})" if wider else ""
    if share < 0.7:
        promise += ", fewer than it should"
    elif share > 0.9:
        promise += ", more than it need: it is wider than it could be"
    if chosen is None:
        promise += f"; it is {best['widening_80']:.2f} times as wide from here on" if wider else ""
        promise += f". These truths chose the line, too: that takes five {several} to avoid"
    line = 100 * float(best["error"] if chosen is None else chosen["error"])
    mean = 100 * float(found.flat["error"])
    if line < mean:
        use = f"The mean error is {line:.1f} points; without knowing the shift it is {mean:.1f}."
    else:
        use = (
            f"Shift does not help here: lines are off by {line:.1f} points on average, the plain "
            f"mean of the other {several} by {mean:.1f}."
        )
    return f"With {several} left out, {promise}. {use}"
