"""Diagnostics: structure of the embedding, the best test epoch, and the number of classes."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from oodml.analysis.intervals import Interval, bootstrap_interval, method_interval, student_interval
from oodml.analysis.table import metrics, shifts, standard_split, to_rows, zero_shot
from oodml.evaluate.registry import find_metric
from oodml.results.schema import STANDARD_SPLIT, Stage, baselines_of, controlled_step

GAP_COLUMNS = (
    "method", "split", "shift", "chosen", "best", "gap", "gap_low", "gap_high", "seeds",
    "chosen_epoch", "best_epoch",
)  # fmt: skip


def structure_metrics_of(table: pd.DataFrame) -> list[str]:
    """The metrics of the family "structure"."""
    return [name for name in metrics(table) if find_metric(name).family == "structure"]


def structure_points(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """The value `x` of each structure measure and `y` of a metric: one row per measure and run."""
    values, shift = to_rows(zero_shot(table, metric), "y"), shifts(table)
    frames = []
    for name in structure_metrics_of(table):
        points = to_rows(zero_shot(table, name), "x").merge(values)
        frames.append(points.assign(shift=points["split"].map(shift).astype(float), measure=name))
    empty = pd.DataFrame(columns=["method", "seed", "split", "x", "y", "shift", "measure"])
    return pd.concat(frames, ignore_index=True) if frames else empty


def structure_correlations(points: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Rank correlations of each structure measure with a metric, from `structure_points`.

    `overall` is over all runs; it can be due to shift alone, which moves both. `within` ranks
    within each split, so it compares models that are tested on the same classes. Its 95% interval
    resamples the seeds of each method.
    """
    from scipy.stats import spearmanr

    rows = []
    for measure, own in points.groupby("measure", sort=False):
        if min(own["x"].nunique(), own["y"].nunique()) < 2 or len(own) < 3:
            continue
        overall = float(spearmanr(own["x"], own["y"]).statistic)
        blocks, generator = _seed_blocks(own), np.random.default_rng(seed)
        within = bootstrap_interval(blocks, _within_split, generator, 500 * (len(blocks) > 1))
        rows.append((measure, overall, within.mean, within.low, within.high, len(own)))
    columns = ["measure", "overall", "within", "within_low", "within_high", "runs"]
    return pd.DataFrame(rows, columns=columns)


def _seed_blocks(points: pd.DataFrame) -> Float[np.ndarray, "seeds two methods splits"]:
    wide = points.pivot(index="seed", columns=["method", "split"], values=["x", "y"])
    names, splits = points["method"].unique(), points["split"].unique()
    columns = pd.MultiIndex.from_product([["x", "y"], names, splits])
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


def epoch_gap(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Compare the epoch selected on validation classes with the best epoch on test classes.

    The best of many test evaluations is high by chance too, so a gap above zero is no sign of a
    bad selection. Runs with `refit` are evaluated during their refit, which ends at the selected
    epoch; their gap is understated.

    One row per method and split; empty if no run recorded its epochs. `chosen` and `best` are means
    over seeds that have both, and `gap` is their paired difference with its 95% interval.
    """
    key = ["method", "split", "seed"]
    columns = {
        "chosen": (Stage.ZERO_SHOT, metric), "best": (Stage.BEST_TEST_EPOCH, metric),
        "chosen_epoch": (Stage.VALIDATION, "epoch"),
        "best_epoch": (Stage.BEST_TEST_EPOCH, "epoch"),
    }  # fmt: skip
    values = {}
    for name, (stage, measured) in columns.items():
        rows = table[(table["stage"] == stage) & (table["metric"] == measured)]
        values[name] = rows.set_index(key)["value"]
    wide = pd.DataFrame(values).dropna(subset=["chosen", "best"]).reset_index()
    shift, gaps = shifts(table), []
    for (method, split), group in wide.groupby(["method", "split"]):
        chosen, best, *epochs = (float(group[name].mean()) for name in columns)
        gap = student_interval(group["best"] - group["chosen"])
        gaps.append((method, split, shift[str(split)], chosen, best, *gap, *epochs))
    frame = pd.DataFrame(gaps, columns=[*GAP_COLUMNS])
    return frame.sort_values(["method", "shift"], kind="stable").reset_index(drop=True)


def is_control(split: str) -> bool:
    """Whether a split is a size-matched control of another split."""
    return controlled_step(split) is not None


def without_controls(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the progression itself."""
    return table[~table["split"].map(is_control).astype(bool)]


def size_effects(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """How much of the loss on a split is due to fewer classes, and how much to shift.

    One row per method and split with controls: `by_size` is the loss from the standard split to the
    mean of the controls, `by_shift` the loss from there to the split itself, with 95% intervals.
    """
    wide, baselines, rows = zero_shot(table, metric), baselines_of(table), []
    controls: dict[str, list[str]] = {}
    for split in table["split"].unique():
        parent = controlled_step(split)
        if parent in wide.columns and standard_split(wide.columns) is not None:
            controls.setdefault(str(parent), []).append(split)
    for method, values in wide.groupby(level="method"):
        for split, names in controls.items():
            middle = values[names].mean(axis=1)
            row = [method, split, len(names), float(values[split].mean())]
            for losses in (values[STANDARD_SPLIT] - middle, middle - values[split]):
                known = losses.dropna()
                constant = str(method) in baselines
                row += (method_interval(known, constant) if len(known) else Interval())[:3]
            rows.append(row)
    names = [f"{name}{end}" for name in ("by_size", "by_shift") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", "split", "controls", "value", *names])
