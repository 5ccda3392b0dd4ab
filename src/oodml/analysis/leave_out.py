"""Forecasting points that were left out, to learn how far a forecast can be trusted."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.analysis.lines import FITS, fit_lines

LEVELS = (0.8, 0.95)
LEAST = 4
"""Groups needed: with one left out, a line through three leaves one degree of freedom."""
FOLDS = 30
"""More groups than this are left out several at a time."""
COLUMNS = (
    "fit", "measure", "method", "point", "group", "shift", "truth", "expected",
    "low_80", "high_80", "low_95", "high_95", "widening_80", "widening_95",
    "others_error",
)  # fmt: skip


class Points(NamedTuple):
    """The points that lines go through: x [n], y [m n] of m methods, the group of each [n]."""

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, "m n"]
    groups: Int[np.ndarray, " n"]

    def without(self, folds: Sequence[int]) -> "Points":
        """The points of other folds than these."""
        kept = ~np.isin(self.groups % FOLDS, folds)
        return Points(self.x[kept], self.y[:, kept], self.groups[kept])


def leave_out(values: pd.DataFrame, measures: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Forecast the points of every group by lines through the points of all others.

    values: one row a method, one column a point; each point is an average over seeds, and so is
    what is forecast. measures: one row a point, one column a measure of shift. groups: of each
    point; its points are left out together, since they err together.

    One row a (fit of `FITS`, measure, method, point): shift, truth, expected, and the bounds
    low_80 … high_95. "flat" needs no measure and has one row a point, its measure "none".
    widening_80, widening_95: the factor of the interval that the *other* groups' forecasts ask
    for, each made without this group and its own, so that no truth has a say in its own
    interval; NaN where fewer than five groups leave none to ask. others_error: the mean absolute
    error of those forecasts, by which `chosen_anew` chooses. Empty below four groups.
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    y = values.to_numpy(dtype=np.float64)
    rows: list[tuple[object, ...]] = []
    for fit in FITS if len(names) >= LEAST else ():
        for measure in measures.columns[: 1 if fit == "flat" else None]:
            x = measures[measure].to_numpy(dtype=np.float64)
            start = (fit, "none" if fit == "flat" else measure)
            for method, place, numbers in _left_out(Points(x, y, codes), fit):
                point, group = values.columns[place], names[codes[place]]
                rows.append((*start, values.index[method], point, group, *numbers))
    return pd.DataFrame(rows, columns=[*COLUMNS])


def _left_out(points: Points, fit: str) -> Iterator[tuple[int, int, list[float]]]:
    folds = np.unique(points.groups % FOLDS).tolist()
    for fold in folds:
        places = np.flatnonzero(points.groups % FOLDS == fold)
        expected, halves = _forecast(points, [fold], places, fit)
        factors = _factors(points, fold, folds, fit)
        for method, column in np.argwhere(np.isfinite(expected + points.y[:, places])):
            place, middle = int(places[column]), float(expected[method, column])
            bounds = [
                middle + sign * float(half[method, column]) for half in halves for sign in (-1, 1)
            ]
            truth = float(points.y[method, place])
            yield int(method), place, [float(points.x[place]), truth, middle, *bounds, *factors]


def _forecast(
    points: Points, without: Sequence[int], places: NDArray[np.int64], fit: str
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    lines = fit_lines(*points.without(without), fit)
    at = points.x[places]
    halves = [lines.half_width(at, level) for level in LEVELS]
    return np.where(np.isfinite(halves[0]), lines.expected(at), np.nan), halves


def _factors(points: Points, fold: int, folds: list[int], fit: str) -> list[float]:
    """What the folds but one ask of the interval at each level, and their error.

    Each of them is forecast by the rest, without the one either.
    """
    off, weights = [], []
    halves: list[list[NDArray[np.float64]]] = [[] for _ in LEVELS]
    for other in folds:
        places = np.flatnonzero(points.groups % FOLDS == other)
        if other == fold:
            continue
        expected, reach = _forecast(points, [fold, other], places, fit)
        error = np.abs(points.y[:, places] - expected)
        known = np.isfinite(error)
        off.append(error[known])
        weights.append(np.full(known.sum(), 1 / max(known.sum(), 1)))
        for level, half in enumerate(reach):
            halves[level].append(half[known])
    joined, weight = np.concatenate(off), np.concatenate(weights)
    factors = [
        widening(joined, np.concatenate(half), weight, level)
        for half, level in zip(halves, LEVELS, strict=True)
    ]
    return [*factors, float(np.average(joined, weights=weight)) if len(joined) else np.nan]


def widening(
    off: Float[np.ndarray, " n"],
    half: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    level: float,
) -> float:
    """By what half widths must grow to hold a share `level` of the errors; 1 if they do already.

    NaN without errors.
    """
    if not len(off):
        return float("nan")
    ratio = off / np.maximum(half, 1e-12)
    order = np.argsort(ratio, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    place = min(int(np.searchsorted(share, level - 1e-9)), len(ratio) - 1)
    return max(1.0, float(ratio[order[place]]))


def calibration(left_out: pd.DataFrame) -> pd.DataFrame:
    """One row a (fit, measure), the best first: how well `leave_out` did; every group counts once.

    error: the mean absolute error. coverage_80, coverage_95: the share of truths within the
    interval. widening_80, widening_95: what its half width is multiplied by from now on, so that
    as many of the left-out truths lie within as it promises. kept_80, kept_95: the share within
    the widened interval, the factor of each truth taken from other groups; NaN with four
    groups. half_80, half_95: the mean half width, widened. forecasts, groups: how many.
    "flat" comes last: it is what the others must beat.
    """
    rows = []
    for (fit, measure), part in left_out.groupby(["fit", "measure"], sort=False):
        weights = 1 / part.groupby("group")["truth"].transform("size").to_numpy(np.float64)
        off = (part["truth"] - part["expected"]).abs().to_numpy()
        row: dict[str, object] = {
            "fit": fit, "measure": measure, "error": float(np.average(off, weights=weights)),
            "forecasts": len(part), "groups": part["group"].nunique(),
        }  # fmt: skip
        for level in LEVELS:
            row |= _covered(part, off, weights, level)
        rows.append(row)
    found = pd.DataFrame(rows)
    if found.empty:
        return found
    found["last"] = found["fit"] == "flat"
    return found.sort_values(["last", "error"]).drop(columns="last").reset_index(drop=True)


def chosen_anew(left_out: pd.DataFrame) -> pd.DataFrame:
    """The forecasts of each group by the line that the other groups choose: "chosen", "best".

    For each group, fit and measure are those that err least on the other groups, each forecast
    without this group and its own (`others_error`). Of the least error of many on the very
    truths that it is then judged by, one learns too little: `calibration` of these forecasts
    tells how choosing, drawing the line and widening its interval do on what none of them has
    seen. Empty where fewer than five groups leave nothing to choose by.
    """
    lines = left_out[(left_out["fit"] != "flat") & left_out["others_error"].notna()]
    key = ["group", "fit", "measure"]
    errors = lines.groupby(key, sort=False)["others_error"].first().reset_index()
    best = errors.loc[errors.groupby("group", sort=False)["others_error"].idxmin(), key]
    return lines.merge(best, on=key).assign(fit="chosen", measure="best")


def _covered(
    part: pd.DataFrame, off: NDArray[np.float64], weights: NDArray[np.float64], level: float
) -> dict[str, float]:
    name = f"{100 * level:.0f}"
    half = ((part[f"high_{name}"] - part[f"low_{name}"]) / 2).to_numpy()
    others = part[f"widening_{name}"].to_numpy(np.float64)
    factor = widening(off, half, weights, level)
    sure = np.isfinite(others)
    inside = (off <= half * others)[sure]
    return {
        f"coverage_{name}": float(np.average(off <= half, weights=weights)),
        f"widening_{name}": factor,
        f"kept_{name}": float(np.average(inside, weights=weights[sure])) if sure.any() else np.nan,
        f"half_{name}": float(np.average(half, weights=weights)) * factor,
    }


def widened(left_out: pd.DataFrame) -> pd.DataFrame:
    """The forecasts with the intervals that would have been given: widened as the others ask."""
    found = left_out.copy()
    for level in LEVELS:
        name = f"{100 * level:.0f}"
        factor = found[f"widening_{name}"].fillna(1.0)
        for side in ("low", "high"):
            off = found[f"{side}_{name}"] - found["expected"]
            found[f"{side}_{name}"] = found["expected"] + factor * off
    return found
