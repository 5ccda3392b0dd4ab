"""Correlations between the structure of an embedding space and its generalization."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from oodml.analysis.intervals import bootstrap_interval
from oodml.analysis.table import metrics, shifts, zero_shot
from oodml.evaluate.registry import find_metric


def structure_metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics of the family "structure"."""
    return [name for name in metrics(table) if find_metric(name).family == "structure"]


def structure_points(table: pd.DataFrame, measure: str, metric: str = "recall@1") -> pd.DataFrame:
    """One row per run with both values: method, seed, split, shift, measure, metric."""
    both = {"measure": zero_shot(table, measure), "metric": zero_shot(table, metric)}
    long = pd.concat({name: wide.stack() for name, wide in both.items()}, axis=1).dropna()
    long = long.reset_index()
    long["shift"] = long["split"].map(shifts(table)).astype(float)
    return long


def structure_correlations(
    table: pd.DataFrame, metric: str = "recall@1", seed: int = 0
) -> pd.DataFrame:
    """Rank correlations of each structure measure with a metric, over all runs.

    Returns:
        One row per measure. `overall` is over all runs; it can be due to shift alone, which moves
        both. `within` ranks within each split, so it compares models that are tested on the same
        classes. Its 95% interval resamples the seeds of each method.
    """
    from scipy.stats import spearmanr

    rows = []
    for measure in structure_metrics_of(table):
        points = structure_points(table, measure, metric)
        if min(points["measure"].nunique(), points["metric"].nunique()) < 2 or len(points) < 3:
            continue
        overall = float(spearmanr(points["measure"], points["metric"]).statistic)
        blocks = _seed_blocks(points)
        within = bootstrap_interval(
            blocks, _within_split, np.random.default_rng(seed), draws=500 if len(blocks) > 1 else 0
        )
        rows.append((measure, overall, within.mean, within.low, within.high, len(points)))
    columns = ["measure", "overall", "within", "within_low", "within_high", "runs"]
    return pd.DataFrame(rows, columns=columns)


def _seed_blocks(points: pd.DataFrame) -> Float[np.ndarray, "seeds two methods splits"]:
    wide = points.pivot(index="seed", columns=["method", "split"], values=["measure", "metric"])
    names, splits = points["method"].unique(), points["split"].unique()
    columns = pd.MultiIndex.from_product([["measure", "metric"], names, splits])
    block = wide.reindex(columns=columns).to_numpy(dtype=np.float64)
    return block.reshape(len(wide), 2, len(names), len(splits))


def _within_split(blocks: Float[np.ndarray, "seeds two methods splits"]) -> float:
    from scipy.stats import rankdata

    splits = blocks.transpose(1, 3, 0, 2).reshape(2, blocks.shape[3], -1)
    ranks = rankdata(splits, axis=2, nan_policy="omit")
    centered = ranks - np.nanmean(ranks, axis=2, keepdims=True)
    known = np.isfinite(centered).all(axis=0)
    first, second = centered[0][known], centered[1][known]
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else float("nan")
