"""Forecasts of a metric on a target, from the target's shift to the training classes."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from oodml.analysis.ags import Numbers
from oodml.analysis.leave_out import LEVELS, MIN_GROUPS, leave_out
from oodml.analysis.lines import fit_lines
from oodml.analysis.table import clip_to_bounds, shifts, standard_split, zero_shot
from oodml.errors import OodmlError


class Prediction(NamedTuple):
    """The expected value for a new split and the bounds of its interval."""

    expected: float
    low: float
    high: float


def line_forecast(
    shift: Numbers, value: Numbers, at: float, level: float = 0.8, widening: float = 1.0
) -> Prediction:
    """Forecast a method's value at a shift with the least-squares line through its splits.

    Args:
        shift: [n] the shift of at least 3 splits.
        value: [n] the metric on each split.
        at: the shift of the new split.
        level: the confidence level of the interval for a new observation (Student t with n-2
            degrees of freedom).
        widening: a factor on the half width of the interval.
    """
    x, y = _points(shift, value)
    lines = fit_lines(x, y[None, :], np.arange(len(x)))
    target = np.array([at], dtype=np.float64)
    expected = float(lines.expected(target)[0, 0])
    half = float(lines.half_width(target, level)[0, 0]) * widening
    return Prediction(expected, expected - half, expected + half)


def leave_splits_out(
    table: pd.DataFrame, measures: pd.DataFrame, metric: str = "recall@1"
) -> pd.DataFrame:
    """`leave_out` for splits: one row per fit, measure, method, and split.

    All methods have correlated errors on a split, so a split is a group.

    Args:
        table: the results table.
        measures: one row per split (index), one column per measure of shift.
        metric: the metric to forecast.
    """
    means = zero_shot(table, metric).groupby(level="method").mean()
    splits = [split for split in means.columns if split in measures.index]
    forecasts = leave_out(means[splits], measures.loc[splits], splits)
    return forecasts.rename(columns={"point": "split"})


def forecast_methods(
    table: pd.DataFrame,
    measure: "pd.Series[float]",
    at: float,
    metric: str = "recall@1",
    widening: tuple[float, float] = (1.0, 1.0),
    fit: str = "own",
) -> pd.DataFrame:
    """Forecast what every method, baselines included, will score at a shift.

    Args:
        table: the results table.
        measure: the shift of each split (index).
        at: the shift of the target.
        metric: the metric to forecast.
        widening: the factors on the half widths of the 80% and the 95% interval.
        fit: one of `FITS`.

    Returns:
        One row per method, by descending expected value: `expected`, `low_80` to `high_95`
        (clipped to the metric's bounds), and `relative`, the expected value as a share of that on
        the standard split (or the easiest, without one).

    Raises:
        OodmlError: if no method has results on at least 3 splits.
    """
    means = zero_shot(table, metric).groupby(level="method").mean()
    splits = [split for split in means.columns if split in measure.index]
    means = means.loc[means[splits].notna().sum(axis=1) >= MIN_GROUPS - 1, splits]
    if means.empty:
        raise OodmlError(
            f"a forecast requires a method with results on at least {MIN_GROUPS - 1} splits",
            location="results table",
            given=len(splits),
        )
    x = measure[splits].to_numpy(dtype=np.float64)
    lines = fit_lines(x, means.to_numpy(dtype=np.float64), np.arange(len(splits)), fit)
    target = np.array([at], dtype=np.float64)
    forecasts = pd.DataFrame({"method": means.index, "expected": lines.expected(target)[:, 0]})
    for level, factor in zip(LEVELS, widening, strict=True):
        half = lines.half_width(target, level)[:, 0] * factor
        forecasts[f"low_{100 * level:.0f}"] = forecasts["expected"] - half
        forecasts[f"high_{100 * level:.0f}"] = forecasts["expected"] + half
    forecasts = clip_forecasts(forecasts, metric)
    start = standard_split(splits) or str(shifts(table).index[0])
    initial = means.get(start, pd.Series(np.nan, means.index)).to_numpy()
    forecasts["relative"] = forecasts["expected"] / initial
    order = ["expected", "method"]
    return forecasts.sort_values(order, ascending=[False, True]).reset_index(drop=True)


def separated_forecast(forecasts: pd.DataFrame) -> str | None:
    """The method whose 80% interval is above that of every other method, if there is one."""
    best = forecasts.iloc[0]
    others = forecasts.iloc[1:]
    if len(others) and bool((others["high_80"] < best["low_80"]).all()):
        return str(best["method"])
    return None


def clip_forecasts(forecasts: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A copy with expected values and bounds clipped to the metric's possible values."""
    prefixes = ("expected", "low_", "high_")
    names = [str(name) for name in forecasts if str(name).startswith(prefixes)]
    return clip_to_bounds(forecasts, metric, names)


def _points(
    shift: Numbers, value: Numbers
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    x, y = np.asarray([*shift], np.float64), np.asarray([*value], np.float64)
    if len(x) != len(y) or len(x) < MIN_GROUPS - 1 or len(np.unique(x)) < 2:
        raise OodmlError(
            f"a forecast requires {MIN_GROUPS - 1} splits of different shift; given {len(x)} "
            f"shifts ({len(np.unique(x))} different) and {len(y)} values",
            location="shift",
            given=len(x),
        )
    return x, y
