"""Leave-one-group-out forecasts: how far a forecast from shift can be trusted."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.analysis.lines import FITS, fit_lines

LEVELS = (0.8, 0.95)
MIN_GROUPS = 4
"""With one of four groups left out, a line through three has one degree of freedom."""
MAX_FOLDS = 30
"""More groups than this are left out several at a time."""
FORECAST_COLUMNS = (
    "fit", "measure", "method", "point", "group", "shift", "truth", "expected",
    "low_80", "high_80", "low_95", "high_95", "widening_80", "widening_95",
    "others_error",
)  # fmt: skip


class Points(NamedTuple):
    """The points to fit lines to: x [n], y [m n] of m methods, and the group of each point [n]."""

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, "m n"]
    groups: Int[np.ndarray, " n"]

    @property
    def folds(self) -> NDArray[np.int64]:
        """[n] the fold of each point."""
        return np.asarray(self.groups % MAX_FOLDS)

    def without(self, folds: Sequence[int]) -> "Points":
        """The points of all other folds."""
        remaining = ~np.isin(self.folds, folds)
        return Points(self.x[remaining], self.y[:, remaining], self.groups[remaining])


def leave_out(values: pd.DataFrame, measures: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Forecast the points of each group by lines through the points of all other groups.

    Args:
        values: one row per method, one column per point; each value is a mean over seeds, and so
            is its forecast.
        measures: one row per point, one column per measure of shift.
        groups: the group of each point. Points of a group are left out together, because their
            errors are correlated.

    Returns:
        One row per fit (of `FITS`), measure, method, and point; empty below `MIN_GROUPS` groups.
        The fit "flat" uses no measure and has the measure "none".

        - `shift`, `truth`, `expected`, and the bounds `low_80` to `high_95`.
        - `widening_80`, `widening_95`: the factor by which the interval must be widened to cover
          its share of the *other* groups' values, each forecast without this group and its own,
          so no value affects its own interval. NaN below five groups.
        - `others_error`: the mean absolute error of those forecasts.
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    y = values.to_numpy(dtype=np.float64)
    rows: list[tuple[object, ...]] = []
    for fit in FITS if len(names) >= MIN_GROUPS else ():
        for measure in measures.columns[: 1 if fit == "flat" else None]:
            x = measures[measure].to_numpy(dtype=np.float64)
            start = (fit, "none" if fit == "flat" else measure)
            for method, column, numbers in _forecasts(Points(x, y, codes), fit):
                point, group = values.columns[column], names[codes[column]]
                rows.append((*start, values.index[method], point, group, *numbers))
    return pd.DataFrame(rows, columns=[*FORECAST_COLUMNS])


def _forecasts(points: Points, fit: str) -> Iterator[tuple[int, int, list[float]]]:
    """The method, the point, and the numbers of each forecast."""
    folds = np.unique(points.folds).tolist()
    for fold in folds:
        columns = np.flatnonzero(points.folds == fold)
        expected, halves = _forecast(points, [fold], columns, fit)
        factors = _factors(points, fold, folds, fit)
        for method, index in np.argwhere(np.isfinite(expected + points.y[:, columns])):
            column, center = int(columns[index]), float(expected[method, index])
            bounds = [
                center + sign * float(half[method, index]) for half in halves for sign in (-1, 1)
            ]
            truth = float(points.y[method, column])
            yield int(method), column, [float(points.x[column]), truth, center, *bounds, *factors]


def _forecast(
    points: Points, without: Sequence[int], columns: NDArray[np.int64], fit: str
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Expected values and half widths at some points, by lines that leave some folds out."""
    lines = fit_lines(*points.without(without), fit)
    at = points.x[columns]
    halves = [lines.half_width(at, level) for level in LEVELS]
    return np.where(np.isfinite(halves[0]), lines.expected(at), np.nan), halves


def _factors(points: Points, fold: int, folds: list[int], fit: str) -> list[float]:
    """The widening at each level, and the error, of the other folds' forecasts.

    Each of them is forecast without its own fold and without `fold`.
    """
    errors, weights = [], []
    halves: list[list[NDArray[np.float64]]] = [[] for _ in LEVELS]
    for other in folds:
        if other == fold:
            continue
        columns = np.flatnonzero(points.folds == other)
        expected, widths = _forecast(points, [fold, other], columns, fit)
        error = np.abs(points.y[:, columns] - expected)
        known = np.isfinite(error)
        errors.append(error[known])
        weights.append(np.full(known.sum(), 1 / max(known.sum(), 1)))
        for level, half in enumerate(widths):
            halves[level].append(half[known])
    joined, weight = np.concatenate(errors), np.concatenate(weights)
    factors = [
        widening(joined, np.concatenate(half), weight, level)
        for half, level in zip(halves, LEVELS, strict=True)
    ]
    return [*factors, float(np.average(joined, weights=weight)) if len(joined) else np.nan]


def widening(
    errors: Float[np.ndarray, " n"],
    half: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    level: float,
) -> float:
    """The factor on half widths with which they cover a share `level` of the errors, at least 1.

    NaN without errors.
    """
    if not len(errors):
        return float("nan")
    ratio = errors / np.maximum(half, 1e-12)
    order = np.argsort(ratio, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    index = min(int(np.searchsorted(share, level - 1e-9)), len(ratio) - 1)
    return max(1.0, float(ratio[order[index]]))


def calibration(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Errors and coverage of the forecasts of `leave_out`; every group has the same weight.

    Returns:
        One row per fit and measure, by ascending error, "flat" last: it is the baseline to beat.

        - `error`: the mean absolute error.
        - `coverage_80`, `coverage_95`: the share of values inside the interval.
        - `widening_80`, `widening_95`: the factor on half widths with which the intervals cover
          their share of these values.
        - `widened_coverage_80`, `widened_coverage_95`: the share inside the widened interval,
          with each value's factor from the other groups; NaN with four groups.
        - `half_80`, `half_95`: the mean half width after widening.
        - `forecasts`, `groups`: their numbers.
    """
    rows = []
    for (fit, measure), part in forecasts.groupby(["fit", "measure"], sort=False):
        weights = 1 / part.groupby("group")["truth"].transform("size").to_numpy(np.float64)
        errors = (part["truth"] - part["expected"]).abs().to_numpy()
        row: dict[str, object] = {
            "fit": fit, "measure": measure, "error": float(np.average(errors, weights=weights)),
            "forecasts": len(part), "groups": part["group"].nunique(),
        }  # fmt: skip
        for level in LEVELS:
            row |= _coverage(part, errors, weights, level)
        rows.append(row)
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table["last"] = table["fit"] == "flat"
    return table.sort_values(["last", "error"]).drop(columns="last").reset_index(drop=True)


def nested_choice(forecasts: pd.DataFrame) -> pd.DataFrame:
    """The forecasts of each group by the line with the smallest error on the other groups.

    Selecting fit and measure by their error on all groups makes that error optimistic. Here each
    group's line is selected on the other groups alone (`others_error`), so the `calibration` of
    these forecasts estimates how selecting, fitting, and widening perform on new groups.

    Returns:
        Rows of `forecasts` with the fit "chosen" and the measure "best"; empty below five groups.
    """
    lines = forecasts[(forecasts["fit"] != "flat") & forecasts["others_error"].notna()]
    key = ["group", "fit", "measure"]
    errors = lines.groupby(key, sort=False)["others_error"].first().reset_index()
    best = errors.loc[errors.groupby("group", sort=False)["others_error"].idxmin(), key]
    return lines.merge(best, on=key).assign(fit="chosen", measure="best")


def _coverage(
    part: pd.DataFrame, errors: NDArray[np.float64], weights: NDArray[np.float64], level: float
) -> dict[str, float]:
    name = f"{100 * level:.0f}"
    half = ((part[f"high_{name}"] - part[f"low_{name}"]) / 2).to_numpy()
    others = part[f"widening_{name}"].to_numpy(np.float64)
    factor = widening(errors, half, weights, level)
    known = np.isfinite(others)
    inside = (errors <= half * others)[known]
    widened = float(np.average(inside, weights=weights[known])) if known.any() else np.nan
    return {
        f"coverage_{name}": float(np.average(errors <= half, weights=weights)),
        f"widening_{name}": factor,
        f"widened_coverage_{name}": widened,
        f"half_{name}": float(np.average(half, weights=weights)) * factor,
    }


def widen(forecasts: pd.DataFrame) -> pd.DataFrame:
    """A copy of the forecasts with each interval widened by the factor from the other groups."""
    widened = forecasts.copy()
    for level in LEVELS:
        name = f"{100 * level:.0f}"
        factor = widened[f"widening_{name}"].fillna(1.0)
        for side in ("low", "high"):
            distance = widened[f"{side}_{name}"] - widened["expected"]
            widened[f"{side}_{name}"] = widened["expected"] + factor * distance
    return widened
