"""Views of the results table: its splits, methods, and metrics, and one metric as a matrix."""

from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd

from oodml.errors import unknown
from oodml.evaluate.registry import find_metric, sort_metrics
from oodml.results.schema import STANDARD_SPLIT, Stage, baselines_of


def shifts(table: pd.DataFrame) -> "pd.Series[float]":
    """The shift of each split, in ascending order."""
    known = table["stage"].to_numpy() != Stage.TEST_DATA
    splits, values = (table[name].to_numpy()[known].tolist() for name in ("split", "shift"))
    first = dict(zip(reversed(splits), reversed(values), strict=True))
    by_split = pd.Series({name: first[name] for name in splits}, dtype=np.float64, name="shift")
    return by_split.rename_axis("split").sort_values(kind="stable")


def methods(table: pd.DataFrame) -> list[str]:
    """The methods in alphabetical order, baselines last."""
    baselines = baselines_of(table)
    return sorted(table["method"].unique().tolist(), key=lambda name: (name in baselines, name))


def trained(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of all methods except baselines."""
    return table[~table["method"].isin(baselines_of(table))]


def metrics(table: pd.DataFrame) -> list[str]:
    """The zero-shot metrics in the order of display, without the family "count"."""
    names = table.loc[table["stage"] == Stage.ZERO_SHOT, "metric"].unique()
    return sort_metrics(name for name in names if find_metric(name).family != "count")


def ranked_metrics(table: pd.DataFrame) -> list[str]:
    """The metrics that methods are ranked by: those of quality, or all if there are none."""
    names = metrics(table)
    return [name for name in names if is_quality(name)] or names


def is_quality(metric: str) -> bool:
    """Whether a metric measures quality, and a higher value is better."""
    known = find_metric(metric)
    return known.is_quality and bool(known.higher_is_better)


def zero_shot(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric as a matrix: a row per (method, seed), a column per split, by ascending shift.

    Missing runs and infinite values are NaN.
    """
    chosen = table["metric"].to_numpy() == metric
    chosen &= table["stage"].to_numpy() == Stage.ZERO_SHOT
    if not chosen.any() or find_metric(metric).family == "count":
        raise unknown("metric", metric, metrics(table), "results table")
    rows = table[["method", "seed", "split", "value"]][chosen]
    wide = rows.pivot(index=["method", "seed"], columns="split", values="value")
    order = [name for name in shifts(table).index if name in wide]
    return pd.DataFrame(wide[order].where(np.isfinite))


def zero_shot_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The runs with zero-shot results: `run`, `method`, `split`, and `seed`."""
    rows = table[table["stage"] == Stage.ZERO_SHOT].drop_duplicates("run")
    return rows[["run", "method", "split", "seed"]]


def to_rows(wide: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row per cell of a matrix that is not NaN, with the value in the column `name`."""
    return cast("pd.Series[float]", wide.stack()).rename(name).reset_index()


def standard_split(splits: Iterable[str]) -> str | None:
    """The standard split, or None if it is not among the splits."""
    return STANDARD_SPLIT if STANDARD_SPLIT in list(splits) else None


def clip_to_bounds(frame: pd.DataFrame, metric: str, columns: Iterable[str]) -> pd.DataFrame:
    """A copy whose columns are clipped to the metric's smallest and largest possible value."""
    low, high = find_metric(metric).bounds
    return frame.assign(**{name: frame[name].clip(low, high) for name in columns if name in frame})
