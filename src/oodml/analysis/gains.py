"""What is gained by adapting to a few labeled images, and over the baseline near and far."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from oodml.analysis.formatting import format_difference, format_interval, format_number, is_percent
from oodml.analysis.intervals import student_interval
from oodml.analysis.table import shifts, zero_shot
from oodml.evaluate.registry import find_metric
from oodml.results.schema import STANDARD_SPLIT, Stage, baselines_of

MEASURED = ["before", "after", "gain"]
COLUMNS = (
    "method", "baseline", "near_split", "near_shift", "near", "near_low", "near_high",
    "far_split", "far", "far_low", "far_high", "crossing", "crossing_low", "crossing_high",
)  # fmt: skip


def episode_gains(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """`before`, `after`, and `gain` of each episode on its queries; empty if no run adapted."""
    rows = table[table["stage"].isin([Stage.BEFORE, Stage.AFTER]) & (table["metric"] == metric)]
    key = ["method", "split", "shots", "seed", "episode"]
    wide = rows.pivot(index=key, columns="stage", values="value")
    wide = wide.reindex(columns=[Stage.BEFORE.value, Stage.AFTER.value]).dropna()
    wide["gain"] = wide[Stage.AFTER.value] - wide[Stage.BEFORE.value]
    wide.columns.name = None
    long = wide.reset_index()
    return long.assign(shots=long["shots"].astype(float).astype(int))


def few_shot_gains(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Means of `before`, `after`, and `gain` with 95% intervals by method, shots, and shift.

    The interval is over seeds, with each seed's episodes averaged first; with one seed it is over
    episodes. `over` names which, and `n` is their number.
    """
    adapted, shift, rows = (table["stage"].to_numpy() == Stage.AFTER).any(), shifts(table), []
    groups = episode_gains(table, metric).groupby(["method", "split", "shots"]) if adapted else ()
    for (method, split, shots), group in groups:
        seeds = group.groupby("seed")[MEASURED].mean()
        over, values = ("seeds", seeds) if len(seeds) > 1 else ("episodes", group[MEASURED])
        row: dict[str, Any] = {"method": method, "split": split, "shift": shift[str(split)]}
        row |= {"shots": shots, "over": over, "n": len(values)}
        for name in MEASURED:
            mean, low, high, _ = student_interval(values[name])
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    if not rows:
        return pd.DataFrame(columns=["method", "split", "shift", "shots", "gain"])
    return pd.DataFrame(rows).sort_values(["method", "shots", "shift"]).reset_index(drop=True)


def gain_slopes(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """How the gain of each method and number of shots changes along the progression.

    `slope` is that of a line through each seed's gains over the rescaled shift, with its mean and
    95% interval over seeds.
    """
    gains, shift, rows = episode_gains(table, metric), shifts(table), []
    present = shift[shift.index.isin(gains["split"].unique())]
    rescaled = (present - present.min()) / (present.max() - present.min())
    for (method, shots), group in gains.groupby(["method", "shots"]):
        seeds = group.groupby(["seed", "split"])["gain"].mean().unstack("split").dropna()
        if len(seeds) and rescaled[seeds.columns].nunique() > 1:
            slopes = [np.polyfit(rescaled[seeds.columns], row, 1)[0] for row in seeds.to_numpy()]
            rows.append((method, shots, *student_interval(slopes)[:3]))
    return pd.DataFrame(rows, columns=["method", "shots", "slope", "slope_low", "slope_high"])


def near_and_far(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """What each trained method gains over the baseline's mean near and far from training classes.

    One row per method with `COLUMNS`, with 95% Student intervals over seeds. The crossing is the
    shift beyond which the mean gain, linear between splits, is negative. Its interval ends where
    the bounds of the gain cross zero; an end is infinite if its bound stays positive. Empty without
    a baseline or with a single split.
    """
    wide, rows = zero_shot(table, metric), []
    shift = shifts(table)[wide.columns]
    names = set(wide.index.get_level_values("method"))
    baselines = sorted(baselines_of(table) & names)
    baseline = "frozen" if "frozen" in baselines else next(iter(baselines), None)
    if baseline is None or shift.nunique() < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    level = wide.loc[baseline].mean()
    for method in sorted(names - set(baselines)):
        gains = wide.loc[method] - level
        if gains.isna().all().any():
            continue
        bounds = np.array([student_interval(gains[name].dropna())[:3] for name in shift.index])
        near = (str(shift.index[0]), shift.iloc[0], *bounds[0])
        far = (str(shift.index[-1]), *bounds[-1])
        crossings = (crossing_shift(shift.to_numpy(), values) for values in bounds.T)
        rows.append((method, baseline, *near, *far, *crossings))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def crossing_shift(shift: Float[np.ndarray, " k"], gain: Float[np.ndarray, " k"]) -> float:
    """The shift beyond which a gain, linear between splits, stays negative.

    The smallest shift if it is negative everywhere, infinity if it is not negative at the largest
    shift, and NaN if a gain is NaN.
    """
    if np.isnan(gain).any():
        return float("nan")
    if gain[-1] >= 0:
        return float("inf")
    above = np.flatnonzero(gain >= 0)
    if not len(above):
        return float(shift[0])
    i = int(above[-1])
    return float(shift[i] + gain[i] / (gain[i] - gain[i + 1]) * (shift[i + 1] - shift[i]))


def describe_near_and_far(rows: pd.DataFrame, metric: str = "recall@1") -> str:
    """One or two sentences about the method of the first row; "" without rows."""
    if rows.empty:
        return ""
    row = rows.iloc[0]
    changes = []
    for side in ("near", "far"):
        value = format_difference(row[side], metric, sign=True)
        bounds = row[f"{side}_low"], row[f"{side}_high"]
        interval = format_interval(*bounds, metric, difference=True)
        changes.append(value if np.isnan(bounds[0]) else f"{value} ({interval})")
    unit = " points" if is_percent(metric) else ""
    split = "easiest" if row["near_split"] != STANDARD_SPLIT else "standard"
    text = (
        f"Compared with {row['baseline']}, {row['method']} changes {find_metric(metric).label} by "
        f"{changes[0]}{unit} on the {split} split and by {changes[1]} on the hardest."
    )
    if not np.isfinite(row["crossing"]):
        return text
    better = f"{row['baseline']} is better" if row["far_high"] < 0 else "its mean gain is negative"
    if row["crossing"] == row["near_shift"] and row["near"] < 0:
        return f"{text} On every split, {better}."
    low, high = (format_number(row[f"crossing_{end}"], 2) for end in ("low", "high"))
    ends = f"{low} to {high}" if np.isfinite(row["crossing_high"]) else f"{low} or more"
    interval = "" if np.isnan(row["crossing_low"]) else f" (95% interval {ends})"
    return f"{text} Beyond shift {format_number(row['crossing'], 2)}{interval}, {better}."
