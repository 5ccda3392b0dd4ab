"""What a method will score on a target, from how far the target lies from the train classes."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from oodml.analysis.ags import Numbers
from oodml.analysis.leave_out import LEAST, LEVELS, leave_out
from oodml.analysis.lines import fit_lines
from oodml.analysis.table import limits, shifts, standard_split, zero_shot
from oodml.errors import OodmlError


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
    x, y = _points(shift, value)
    lines = fit_lines(x, y[None, :], np.arange(len(x)))
    where = np.array([at], dtype=np.float64)
    expected = float(lines.expected(where)[0, 0])
    half = float(lines.half_width(where, level)[0, 0]) * widening
    return Prediction(expected, expected - half, expected + half)


def leave_splits_out(
    table: pd.DataFrame, measures: pd.DataFrame, metric: str = "recall@1"
) -> pd.DataFrame:
    """`leave_out` of every split: one row a (fit, measure, method, split).

    measures: one row a split (its index), one column a measure of shift. A point is a method's
    mean over seeds on a split; all methods err alike on a split, so a split is a group.
    """
    means = zero_shot(table, metric).groupby(level="method").mean()
    splits = [split for split in means.columns if split in measures.index]
    found = leave_out(means[splits], measures.loc[splits], splits)
    return found.rename(columns={"point": "split"})


def forecast_methods(
    table: pd.DataFrame,
    measure: "pd.Series[float]",
    at: float,
    metric: str = "recall@1",
    widening: tuple[float, float] = (1.0, 1.0),
    fit: str = "own",
) -> pd.DataFrame:
    """One row a method, the highest expectation first: what it will score at a shift.

    measure: the shift of each split. fit: one of `FITS`. relative: the expectation as a share of
    the standard (else the easiest) split's value. low_80 … high_95: the bounds, widened by
    `widening`; they and the expectation keep within what the metric can be.
    """
    means = zero_shot(table, metric).groupby(level="method").mean()
    splits = [split for split in means.columns if split in measure.index]
    means = means.loc[means[splits].notna().sum(axis=1) >= LEAST - 1, splits]
    if means.empty:
        raise OodmlError(f"a forecast needs methods on at least {LEAST - 1} splits; there are none")
    x = measure[splits].to_numpy(dtype=np.float64)
    lines = fit_lines(x, means.to_numpy(dtype=np.float64), np.arange(len(splits)), fit)
    where = np.array([at], dtype=np.float64)
    found = pd.DataFrame({"method": means.index, "expected": lines.expected(where)[:, 0]})
    for level, factor in zip(LEVELS, widening, strict=True):
        half = lines.half_width(where, level)[:, 0] * factor
        found[f"low_{100 * level:.0f}"] = found["expected"] - half
        found[f"high_{100 * level:.0f}"] = found["expected"] + half
    found = within_limits(found, metric)
    start = standard_split(splits) or str(shifts(table).index[0])
    found["relative"] = found["expected"] / means.get(start, pd.Series(np.nan, means.index)).values
    return found.sort_values("expected", ascending=False, kind="stable").reset_index(drop=True)


def within_limits(forecasts: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Forecasts with expectations and bounds no lower or higher than the metric can be."""
    low, high = limits(metric)
    names = [name for name in forecasts if str(name).startswith(("expected", "low_", "high_"))]
    clipped = forecasts.copy()
    for name in names:
        clipped[name] = clipped[name].clip(low, high)
    return clipped


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
