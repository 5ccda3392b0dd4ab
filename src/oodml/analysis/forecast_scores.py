"""Scores of forecasts on targets whose values are known."""

import numpy as np
import pandas as pd
from jaxtyping import Float

KEY = ["leave", "target"]


def interval_score(
    truth: Float[np.ndarray, " n"],
    low: Float[np.ndarray, " n"],
    high: Float[np.ndarray, " n"],
    level: float,
) -> Float[np.ndarray, " n"]:
    """The width plus 2/(1-level) times how far a value is outside (Gneiting and Raftery, 2007)."""
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return np.asarray(high - low + 2 / (1 - level) * outside)


def regret(rows: pd.DataFrame, column: str = "expected") -> "pd.Series[float]":
    """How much better the best method is than the one with the highest forecast, by target."""
    chosen = rows.loc[rows.groupby(KEY)[column].idxmax()].set_index(KEY)["truth"]
    return rows.groupby(KEY)["truth"].max() - chosen


def score_forecasts(rows: pd.DataFrame) -> dict[str, float]:
    """Score forecasts; every leave-out counts the same.

    `rows` are those of `trial.parquet`; bounds may be missing for a guess. `error`, `half_80`,
    `interval_score`, `gain_error`, and `regret` are differences of Recall@1.
    """
    columns = {"error": (rows["truth"] - rows["expected"]).abs()}
    if "low_80" in rows:
        for level in (80, 95):
            inside = rows["truth"].between(rows[f"low_{level}"], rows[f"high_{level}"])
            columns[f"coverage_{level}"] = inside.astype(float)
        columns["half_80"] = (rows["high_80"] - rows["low_80"]) / 2
        truth, low, high = rows[["truth", "low_80", "high_80"]].to_numpy().T
        columns["interval_score"] = pd.Series(interval_score(truth, low, high, 0.8), rows.index)
    gains = (rows["gain"] - rows["gain_expected"]).abs()
    columns["gain_error"] = gains[rows["gain"] != 0].reindex(rows.index)
    means = pd.DataFrame(columns).groupby(rows["leave"]).mean().mean()
    scores = {str(name): float(value) for name, value in means.items()}
    by_leave = regret(rows).groupby("leave").mean()
    return scores | {"regret": float(by_leave.mean())}


def error_difference(
    rows: pd.DataFrame, other: str, seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """How much smaller the error is than that of another column, with a 95% bootstrap interval.

    Leave-outs are resampled, because the targets of one are not independent.
    """
    ours, theirs = ((rows["truth"] - rows[name]).abs() for name in ("expected", other))
    means = (theirs - ours).groupby(rows["leave"]).mean().to_numpy()
    picks = np.random.default_rng(seed).integers(len(means), size=(resamples, len(means)))
    low, high = np.quantile(means[picks].mean(axis=1), [0.025, 0.975])
    return float(means.mean()), float(low), float(high)
