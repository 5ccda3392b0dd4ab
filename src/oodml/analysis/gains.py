"""What is gained by adapting to a few labeled images, and over the baseline near and far."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from oodml.analysis.formatting import format_difference, format_interval, format_number, is_percent
from oodml.analysis.intervals import student_interval
from oodml.analysis.table import shifts, zero_shot
from oodml.evaluate.registry import find_metric
from oodml.results.schema import STANDARD_SPLIT, Stage, baselines_of

EPISODE_KEY = ["method", "split", "shots", "seed", "episode"]
COLUMNS = (
    "method", "baseline", "near_split", "near", "near_low", "near_high",
    "far_split", "far", "far_low", "far_high", "crossing", "crossing_low", "crossing_high",
)  # fmt: skip


def episode_gains(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """`before`, `after`, and `gain` of each episode, on the same query images.

    Returns:
        One row per method, split, shots, seed, and episode; empty if no run adapted.
    """
    rows = table[table["stage"].isin([Stage.BEFORE, Stage.AFTER]) & (table["metric"] == metric)]
    wide = rows.pivot(index=EPISODE_KEY, columns="stage", values="value")
    wide = wide.reindex(columns=[Stage.BEFORE.value, Stage.AFTER.value]).dropna()
    wide["gain"] = wide[Stage.AFTER.value] - wide[Stage.BEFORE.value]
    wide.columns.name = None
    long = wide.reset_index()
    return long.assign(shots=long["shots"].astype(float).astype(int))


def few_shot_gains(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Means of `before`, `after`, and `gain` with 95% intervals.

    The interval is over seeds, with each seed's episodes averaged first; with one seed it is over
    episodes. `over` names which, and `n` is their number.

    Returns:
        One row per method, split, and shots, by ascending shift.
    """
    gains = episode_gains(table, metric)
    shift = shifts(table)
    rows = [
        {"method": method, "split": split, "shift": shift[str(split)], "shots": shots}
        | _summary(group)
        for (method, split, shots), group in gains.groupby(["method", "split", "shots"])
    ]
    if not rows:
        return pd.DataFrame(columns=["method", "split", "shift", "shots", "gain"])
    return pd.DataFrame(rows).sort_values(["method", "shots", "shift"]).reset_index(drop=True)


def _summary(group: pd.DataFrame) -> dict[str, float | str | int]:
    seeds = group.groupby("seed")[["before", "after", "gain"]].mean()
    over = "seeds" if len(seeds) > 1 else "episodes"
    values = seeds if over == "seeds" else group[["before", "after", "gain"]]
    result: dict[str, float | str | int] = {"over": over, "n": len(values)}
    for name in ("before", "after", "gain"):
        interval = student_interval(values[name])
        result |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return result


def gain_slopes(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """How the gain changes from the easiest to the hardest split.

    Returns:
        One row per method and shots. `slope` is that of a line through each seed's gains over the
        rescaled shift, with its mean and 95% interval over seeds.
    """
    columns = ["method", "shots", "slope", "slope_low", "slope_high"]
    gains, shift = episode_gains(table, metric), shifts(table)
    present = shift[shift.index.isin(gains["split"].unique())]
    if present.nunique() < 2:
        return pd.DataFrame(columns=columns)
    rescaled = (present - present.min()) / (present.max() - present.min())
    rows = []
    for (method, shots), group in gains.groupby(["method", "shots"]):
        seeds = group.groupby(["seed", "split"])["gain"].mean().unstack("split").dropna()
        if len(seeds) == 0 or rescaled[seeds.columns].nunique() < 2:
            continue
        slopes = [np.polyfit(rescaled[seeds.columns], row, 1)[0] for row in seeds.to_numpy()]
        slope = student_interval(slopes)
        rows.append((method, shots, slope.mean, slope.low, slope.high))
    return pd.DataFrame(rows, columns=columns)


def near_and_far(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """What each trained method gains over the baseline near and far from the training classes.

    The gain of a seed is compared with the baseline's mean. Intervals are 95% Student intervals
    over seeds. The crossing is the shift beyond which the mean gain, linear between splits, is
    negative. Its interval ends where the bounds of the gain cross zero; an end is infinite if its
    bound stays positive, and NaN with a single seed.

    Args:
        table: a results table with a baseline, such as the frozen network.

    Returns:
        One row per method with `COLUMNS`; empty without a baseline or with a single split.
    """
    wide, order = zero_shot(table, metric), shifts(table)
    baselines = sorted(baselines_of(table) & set(wide.index.get_level_values("method")))
    baseline = "frozen" if "frozen" in baselines else next(iter(baselines), None)
    order = order[order.index.isin(wide.columns)]
    if baseline is None or order.nunique() < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    first, last, level = str(order.index[0]), str(order.index[-1]), wide.loc[baseline].mean()
    rows = []
    for method in sorted(set(wide.index.get_level_values("method")) - {baseline}):
        gains = wide.loc[method] - level
        if method in baselines or gains[order.index].isna().all().any():
            continue
        bounds = {name: student_interval(gains[name].dropna()) for name in order.index}
        row = {"method": method, "baseline": baseline, "near_split": first, "far_split": last}
        for suffix, bound in (("", "mean"), ("_low", "low"), ("_high", "high")):
            values = np.array([float(getattr(bounds[name], bound)) for name in order.index])
            row |= {f"near{suffix}": values[0], f"far{suffix}": values[-1]}
            row |= {f"crossing{suffix}": crossing_shift(order.to_numpy(), values)}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def crossing_shift(shift: Float[np.ndarray, " k"], gain: Float[np.ndarray, " k"]) -> float:
    """The shift beyond which a gain, linear between splits, stays negative.

    Returns:
        The smallest shift if it is negative everywhere, infinity if it is not negative at the
        largest shift, and NaN if a gain is NaN.
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
    """One sentence about the method of the first row; "" without rows."""
    if rows.empty:
        return ""
    row = rows.iloc[0]
    label, unit = find_metric(metric).label, " points" if is_percent(metric) else ""
    near, far = (_describe_gain(row, side, metric) for side in ("near", "far"))
    start = f"Compared with {row['baseline']}, {row['method']} changes {label} by {near} "
    split = "easiest" if row["near_split"] != STANDARD_SPLIT else "standard"
    start = f"{start.rstrip()}{unit} on the {split} split and by {far} on the hardest"
    if not np.isfinite(row["crossing"]):
        return f"{start}."
    low, high = (format_number(row[f"crossing_{end}"], 2) for end in ("low", "high"))
    bounds = f"{low} to {high}" if np.isfinite(row["crossing_high"]) else f"{low} or more"
    interval = "" if np.isnan(row["crossing_low"]) else f" (95% interval {bounds})"
    return (
        f"{start}. From shift {format_number(row['crossing'], 2)} on{interval}, "
        f"{row['baseline']} is better."
    )


def _describe_gain(row: "pd.Series[float]", side: str, metric: str) -> str:
    value = format_difference(row[side], metric, sign=True)
    interval = format_interval(row[f"{side}_low"], row[f"{side}_high"], metric, difference=True)
    return value if np.isnan(row[f"{side}_low"]) else f"{value} ({interval})"
