"""The numbers behind the figures, as functions of the results table."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oodml.analysis.ags import aggregated_generalization_score
from oodml.analysis.intervals import method_interval
from oodml.analysis.table import (
    clip_to_bounds,
    is_quality,
    ranked_metrics,
    shifts,
    to_rows,
    zero_shot,
)
from oodml.evaluate.chance import chance_clustering, chance_metrics
from oodml.evaluate.registry import find_metric, sort_metrics
from oodml.images.image_set import ImageSet
from oodml.results.metrics import cutoffs
from oodml.results.schema import baselines_of
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet


def curves(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The curve of each method.

    Returns:
        One row per method and split: `shift`, the `mean` over seeds with its 95% interval (`low`,
        `high`, clipped to the metric's bounds), and the number `n` of seeds.
    """
    wide, shift, baselines = zero_shot(table, metric), shifts(table), baselines_of(table)
    rows = []
    for method, values in wide.groupby(level="method", sort=True):
        for split in wide.columns:
            seeds = values[split].dropna()
            if len(seeds):
                interval = method_interval(seeds, str(method) in baselines)
                rows.append((method, split, shift[split], *interval))
    frame = pd.DataFrame(rows, columns=["method", "split", "shift", "mean", "low", "high", "n"])
    return clip_to_bounds(frame, metric, ("low", "high"))


def further_levels(table: pd.DataFrame | None) -> pd.DataFrame:
    """The quality metrics of each method on further datasets, which no curve includes.

    Args:
        table: the rows of the stage "test_data", or None.

    Returns:
        One row per metric, dataset, split, and method: `shift`, the `mean` over seeds with its 95%
        interval (`low`, `high`, clipped to the metric's bounds), and the number `n` of seeds.
    """
    keys = ["metric", "data", "split", "shift", "method"]
    columns = [*keys, "mean", "low", "high", "n"]
    if table is None:
        return pd.DataFrame(columns=columns)
    baselines, frames = baselines_of(table), []
    for metric in sort_metrics(name for name in table["metric"].unique() if is_quality(name)):
        rows = [
            (*key, *method_interval(values, key[-1] in baselines))
            for key, values in table[table["metric"] == metric].groupby(keys, dropna=False)["value"]
        ]
        frame = pd.DataFrame(rows, columns=columns)
        frame = frame.sort_values(
            ["data", "shift", "split", "mean"], ascending=[True] * 3 + [False]
        )
        frames.append(clip_to_bounds(frame, metric, ("low", "high")))
    return pd.concat(frames, ignore_index=True)


def seed_values(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per run: method, seed, split, shift, and the value of the metric."""
    wide = zero_shot(table, metric)
    long = to_rows(wide, "value")
    return long.assign(shift=long["split"].map(shifts(table)).astype(float))


def split_sizes(
    table: pd.DataFrame, progression: Progression | None, sizes: Mapping[str, int]
) -> pd.DataFrame:
    """The size of each split.

    Args:
        sizes: the number of images of each class.

    Returns:
        One row per split, by ascending shift: `shift`, the number of `train` and `test` classes,
        and the number of test `images`. Unknown counts are NA.
    """
    known = {str(split.step): split for split in progression or ()}
    rows = []
    for name, shift in shifts(table).items():
        split = known.get(str(name))
        train, test = (len(split.train), len(split.test)) if split else (None, None)
        images = sum(sizes.get(c, 0) for c in split.test) if split and sizes else None
        rows.append((name, float(shift), train, test, images))
    frame = pd.DataFrame(rows, columns=["split", "shift", "train", "test", "images"])
    return frame.astype({"train": "Int64", "test": "Int64", "images": "Int64"})


def chance_levels(
    table: pd.DataFrame, progression: Progression | None, sizes: Mapping[str, int]
) -> pd.DataFrame:
    """The chance level of each metric on each split whose test classes and sizes are known.

    For retrieval, that of a random ranking; for clustering, that of random clusters, as many as
    classes (one draw).

    Returns:
        One row per metric and split: `metric`, `split`, `shift`, and `chance`.
    """
    known = {str(split.step): split for split in progression or ()}
    names = [name for name in ranked_metrics(table) if find_metric(name).chance is not None]
    rows = []
    for split, shift in shifts(table).items():
        classes = known[str(split)].test if str(split) in known else ()
        counts = np.array([sizes.get(c, 0) for c in classes], dtype=np.int64)
        if counts.max(initial=0) < 2:
            continue
        levels = _chance(counts, names)
        rows += [(name, split, shift, levels[name]) for name in names if name in levels]
    frame = pd.DataFrame(rows, columns=["metric", "split", "shift", "chance"])
    order = {name: position for position, name in enumerate(names)}
    return frame.sort_values("metric", key=lambda column: column.map(order), kind="stable")


def _chance(counts: NDArray[np.int64], names: list[str]) -> dict[str, float]:
    positives = np.repeat(counts.astype(np.float64) - 1, counts)
    return {
        **chance_metrics(positives, len(positives) - 1, ks=cutoffs(names) or (1,)),
        **chance_clustering(counts),
    }


def chance_scores(table: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The AGS of chance for each metric with a chance level on every split.

    Returns:
        One row per metric: `metric` and `chance`.
    """
    n_splits = len(shifts(table))
    rows = [
        (metric, aggregated_generalization_score(part["shift"], part["chance"]))
        for metric, part in levels.groupby("metric", sort=False)
        if len(part) == n_splits and part["shift"].nunique() > 1
    ]
    return pd.DataFrame(rows, columns=["metric", "chance"])


def image_counts(images: ImageSet | VectorSet | None) -> dict[str, int]:
    """The number of images of each class; empty without images."""
    if images is None:
        return {}
    names, counts = np.unique(images.classes, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


SIZES = {"pca": 1 / 2, "int8": 1 / 4, "pq": 1 / 32, "rescored": 1 / 32, "binary": 1 / 32}
"""The codes of studies, and their size relative to float32."""
OPEN_SET = ("auroc", "false_accepts", "false_rejects", "tar@0.05")


def near_and_far(curves: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The means of metrics on the splits of smallest and largest shift.

    Args:
        curves: the table `curves` of the report.
        names: metrics.

    Returns:
        One row per method that has all metrics: `method` and, for each metric, `NAME_near` and
        `NAME_far`; empty with a single split.
    """
    chosen = curves[curves["metric"].isin(names)] if len(curves) else curves
    rows = []
    for method, part in chosen.groupby("method", sort=False) if len(chosen) else ():
        ends = part["shift"].min(), part["shift"].max()
        values: dict[str, object] = {"method": method}
        for side, shift in zip(("near", "far"), ends, strict=True):
            at = part[part["shift"] == shift].set_index("metric")["mean"]
            values |= {f"{name}_{side}": at[name] for name in names if name in at}
        if ends[0] < ends[1] and len(values) == 1 + 2 * len(names):
            rows.append(values)
    return pd.DataFrame(rows)


def open_set_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Errors at the threshold that was chosen on validation classes, and when choosing it again.

    `rechosen_false_rejects_far` is the share of known queries rejected on the hardest split at the
    threshold that accepts 5% of its own unknown queries.
    """
    table = near_and_far(curves, OPEN_SET)
    if table.empty:
        return table
    return table.assign(rechosen_false_rejects_far=1 - table["tar@0.05_far"])


def compression_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The loss of Recall@1 by each code on the splits of smallest and largest shift.

    Returns:
        One row per method and code: `method`, `code`, `size` (relative to float32), `near`, `far`
        (Recall@1), `loss_near`, `loss_far`, and their `ratio` if the first is positive.
    """
    rows = []
    for code, size in SIZES.items():
        name = f"recall@1_{code}"
        for one in near_and_far(curves, ("recall@1", name)).to_dict("records"):
            losses = [one[f"recall@1_{side}"] - one[f"{name}_{side}"] for side in ("near", "far")]
            ratio = losses[1] / losses[0] if losses[0] > 0 else float("nan")
            values = one[f"{name}_near"], one[f"{name}_far"], *losses, ratio
            rows.append((one["method"], name, size, *values))
    columns = ["method", "code", "size", "near", "far", "loss_near", "loss_far", "ratio"]
    return pd.DataFrame(rows, columns=columns)
