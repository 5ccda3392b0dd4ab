"""What a few labelled samples of the test classes bring, against shift."""

import numpy as np
import pandas as pd

from oodml.analysis.intervals import student_interval
from oodml.analysis.table import shifts


def episode_gains(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """One row a (method, split, shots, seed, episode): `before`, `after`, `gain`.

    Both on the same query images, so the gain is paired. Empty where no run adapted.
    """
    rows = table[table["stage"].isin(["before", "after"]) & (table["metric"] == metric)]
    key = ["method", "split", "shots", "seed", "episode"]
    wide = rows.pivot(index=key, columns="stage", values="value")
    wide = wide.reindex(columns=["before", "after"]).dropna()
    wide["gain"] = wide["after"] - wide["before"]
    wide.columns.name = None
    return wide.reset_index()


def few_shot_gains(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """One row a (method, split, shots): means of before, after and gain, each with its interval.

    The 95% interval is over seeds, each seed's episodes averaged first; with one seed it is
    over episodes. `over` says which, `n` how many. Easiest split first.
    """
    gains = episode_gains(table, metric)
    shift = shifts(table)
    rows = [
        {"method": method, "split": split, "shift": shift[str(split)], "shots": int(str(shots))}
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
    """One row a (method, shots): how the gain changes from the easiest to the hardest split.

    slope, slope_low, slope_high: of a line through each seed's gains over the rescaled shift,
    mean and 95% interval over seeds.
    """
    gains, shift = episode_gains(table, metric), shifts(table)
    present = shift[shift.index.isin(gains["split"].unique())]
    if present.nunique() < 2:
        return pd.DataFrame(columns=["method", "shots", "slope", "slope_low", "slope_high"])
    rescaled = (present - present.min()) / (present.max() - present.min())
    rows = []
    for (method, shots), group in gains.groupby(["method", "shots"]):
        seeds = group.groupby(["seed", "split"])["gain"].mean().unstack("split").dropna()
        if len(seeds) == 0 or rescaled[seeds.columns].nunique() < 2:
            continue
        slopes = [np.polyfit(rescaled[seeds.columns], row, 1)[0] for row in seeds.to_numpy()]
        found = student_interval(slopes)
        rows.append((method, int(str(shots)), found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=["method", "shots", "slope", "slope_low", "slope_high"])
