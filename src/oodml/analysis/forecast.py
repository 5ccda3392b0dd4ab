"""What a method will score on a target, from how far the target lies from the train classes."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.analysis.ags import Numbers
from oodml.analysis.table import shifts, standard_split, zero_shot
from oodml.errors import OodmlError

LEVELS = (0.8, 0.95)
LEAST = 4
"""Splits needed: with one left out, a line through three leaves one degree of freedom."""


class Prediction(NamedTuple):
    """The expected value and the bounds of its interval for a new split."""

    expected: float
    low: float
    high: float


def line_forecast(
    shift: Numbers, value: Numbers, at: float, level: float = 0.8, widening: float = 1.0
) -> Prediction:
    """The least-squares line through a method's splits, read off at a shift.

    shift, value: [n] of n ≥ 3 splits. The interval is that of a new observation, Student t with
    n-2 degrees of freedom, its half width times `widening`.
    """
    from scipy.special import stdtrit

    x, y = _points(shift, value)
    n, centre = len(x), x.mean()
    spread = float(((x - centre) ** 2).sum())
    slope = float(((x - centre) * y).sum()) / spread
    expected = float(y.mean()) + slope * (at - centre)
    residuals = y - y.mean() - slope * (x - centre)
    error = np.sqrt((residuals**2).sum() / (n - 2) * (1 + 1 / n + (at - centre) ** 2 / spread))
    half = float(stdtrit(n - 2, (1 + level) / 2) * error) * widening
    return Prediction(expected, expected - half, expected + half)


def leave_splits_out(
    table: pd.DataFrame, measures: pd.DataFrame, metric: str = "recall@1"
) -> pd.DataFrame:
    """Forecast every split from the others: one row a (measure, method, split).

    measures: one row a split (its index), one column a measure of shift. Columns: shift, truth,
    expected, and low_80, high_80, low_95, high_95. Empty with fewer than four splits.
    """
    means = zero_shot(table, metric).groupby(level="method").mean()
    splits = [split for split in means.columns if split in measures.index]
    rows = []
    for measure in measures.columns:
        x = measures.loc[splits, measure].to_numpy(dtype=np.float64)
        for method, values in means[splits].iterrows():
            y = values.to_numpy(dtype=np.float64)
            rows += _left_out(x, y, {"measure": measure, "method": method}, splits)
    columns = ["measure", "method", "split", "shift", "truth", "expected"]
    bounds = [f"{side}_{100 * level:.0f}" for level in LEVELS for side in ("low", "high")]
    return pd.DataFrame(rows, columns=[*columns, *bounds])


def _left_out(
    x: NDArray[np.float64], y: NDArray[np.float64], start: dict[str, object], splits: list[str]
) -> list[dict[str, object]]:
    known = np.isfinite(x) & np.isfinite(y)
    rows = []
    for place in np.flatnonzero(known):
        others = known & (np.arange(len(x)) != place)
        if others.sum() < LEAST - 1 or len(np.unique(x[others])) < 2:
            continue
        row = start | {"split": splits[place], "shift": x[place], "truth": y[place]}
        for level in LEVELS:
            found = line_forecast(x[others], y[others], float(x[place]), level)
            name = f"{100 * level:.0f}"
            row |= {
                "expected": found.expected, f"low_{name}": found.low, f"high_{name}": found.high
            }  # fmt: skip
        rows.append(row)
    return rows


def calibration(left_out: pd.DataFrame) -> pd.DataFrame:
    """One row a measure, the best first: how well `leave_splits_out` did.

    error: the mean absolute error. coverage_80, coverage_95: the share of truths within the
    interval. widening_80, widening_95: by what its half width must grow so that as many of the
    left-out truths lie within as it promises; 1 where they do already.
    """
    rows = []
    for measure, group in left_out.groupby("measure", sort=False):
        off = (group["truth"] - group["expected"]).abs()
        row: dict[str, object] = {"measure": measure, "error": off.mean(), "forecasts": len(group)}
        for level in LEVELS:
            name = f"{100 * level:.0f}"
            half = (group[f"high_{name}"] - group[f"low_{name}"]) / 2
            row[f"coverage_{name}"] = float((off <= half).mean())
            needed = float(np.quantile(off / np.maximum(half, 1e-12), level, method="higher"))
            row[f"widening_{name}"] = max(1.0, needed)
        rows.append(row)
    found = pd.DataFrame(rows)
    return found if found.empty else found.sort_values("error").reset_index(drop=True)


def forecast_methods(
    table: pd.DataFrame,
    measure: "pd.Series[float]",
    at: float,
    metric: str = "recall@1",
    widening: tuple[float, float] = (1.0, 1.0),
) -> pd.DataFrame:
    """One row a method, the highest expectation first: what it will score at a shift.

    measure: the shift of each split. relative: the expectation as a share of the standard (else
    the easiest) split's value. low_80 … high_95: the bounds, widened by `widening`.
    """
    means = zero_shot(table, metric).groupby(level="method").mean()
    splits = [split for split in means.columns if split in measure.index]
    start = standard_split(splits) or str(shifts(table).index[0])
    rows = []
    for method, values in means[splits].iterrows():
        known = values.dropna()
        if len(known) < LEAST - 1:
            continue
        row: dict[str, object] = {"method": method}
        for level, factor in zip(LEVELS, widening, strict=True):
            found = line_forecast(measure[known.index], known, at, level, factor)
            name = f"{100 * level:.0f}"
            row |= {
                "expected": found.expected, f"low_{name}": found.low, f"high_{name}": found.high
            }  # fmt: skip
        row["relative"] = found.expected / values.get(start, np.nan)
        rows.append(row)
    if not rows:
        raise OodmlError(f"a forecast needs methods on at least {LEAST - 1} splits; there are none")
    return pd.DataFrame(rows).sort_values("expected", ascending=False).reset_index(drop=True)


def _points(
    shift: Numbers, value: Numbers
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    x, y = np.asarray([*shift], np.float64), np.asarray([*value], np.float64)
    if len(x) != len(y) or len(x) < LEAST - 1 or len(np.unique(x)) < 2:
        raise OodmlError(
            f"a forecast needs {LEAST - 1} splits of different shift; given {len(x)} shifts "
            f"({len(np.unique(x))} different) and {len(y)} values"
        )
    return x, y
