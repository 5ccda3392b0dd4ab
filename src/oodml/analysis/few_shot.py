"""The gain from adapting to a few labeled images of the test classes, against shift."""

import numpy as np
import pandas as pd

from oodml.analysis.intervals import student_interval
from oodml.analysis.table import shifts
from oodml.results.schema import Stage

EPISODE_KEY = ["method", "split", "shots", "seed", "episode"]


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
