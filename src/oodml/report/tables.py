"""Every table of a report, computed once. Page, terminal, CSV, and LaTeX only format them."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from oodml.analysis import diagnostics, ranking
from oodml.analysis.findings import findings
from oodml.analysis.gains import few_shot_gains, near_and_far
from oodml.analysis.intervals import SEPARATED, aggregated_generalization_score, method_interval
from oodml.analysis.paper_results import comparable_curves
from oodml.analysis.table import (
    clip_to_bounds,
    is_quality,
    metrics,
    ranked_metrics,
    shifts,
    to_rows,
    trained,
    zero_shot,
)
from oodml.evaluate.clustering import chance_clustering
from oodml.evaluate.registry import find_metric, sort_metrics
from oodml.evaluate.retrieval import chance_metrics
from oodml.images.image_set import ImageSet
from oodml.report.failure_tables import failure_tables
from oodml.report.folder import StudyFolder
from oodml.report.gain_tables import gains, losses, trial_scores
from oodml.results.metrics import cutoffs
from oodml.results.schema import Stage, baselines_of
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet

Tables = dict[str, pd.DataFrame]
SIZES = {"pca": 1 / 2, "int8": 1 / 4, "pq": 1 / 32, "rescored": 1 / 32, "binary": 1 / 32}
"""The codes of studies, and their size relative to float32."""
OPEN_SET = ("auroc", "false_accepts", "false_rejects", "tar@0.05")
INTERVAL = ["mean", "low", "high", "n"]


def tables(folder: StudyFolder) -> Tables:
    """Compute every table of a study's report.

    Tables with the column `metric` cover several metrics; the others refer to the first ranked
    metric. Tables are empty where the study lacks what they need. `pairs` compares by AGS, or with
    a single split on that split. The function that computes a table states what it contains.
    """
    table, baselines = folder.table, baselines_of(folder.table)
    main = ranked_metrics(table)[0]
    rows = {str(name): part for name, part in table.groupby("metric", sort=False)}
    scored = _tables_by_metric(table, rows)
    sizes = image_counts(folder.images or folder.features)
    levels, gain_table = chance_levels(table, folder.progression, sizes), gains(folder)
    points, controls = diagnostics.structure_points(table, main), pd.DataFrame()
    if folder.controls is not None:
        controls = diagnostics.size_effects(folder.controls, main)
    correlations = diagnostics.structure_correlations(points[~points["method"].isin(baselines)])
    return scored | {
        **failure_tables(folder, select(scored, "ags", main)["method"].tolist()),
        "structure": correlations,
        "structure_points": points,
        "progression": split_sizes(table, folder.progression, sizes),
        "controls": controls,
        "chance": levels,
        "chance_ags": chance_scores(table, levels),
        "findings": _findings(folder, rows, scored["ags"], correlations),
        "best_test_epoch_diagnostic": diagnostics.epoch_gap(trained(table), main),
        "gains": gain_table,
        "losses": losses(folder, gain_table),
        "trial": trial_scores(folder),
        "published": _published(folder),
        "test_data": further_levels(folder.further),
        "runs": _runs(folder),
    }


def _tables_by_metric(table: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> Tables:
    """The tables of zero-shot and few-shot values; `rows` are those of each metric."""
    ranked, baselines, shift = ranked_metrics(table), baselines_of(table), shifts(table)
    wide = {metric: zero_shot(rows[metric], metric) for metric in metrics(table)}
    splits = wide[ranked[0]].columns
    single = None if shift[splits].nunique() > 1 else str(splits[0])
    seeds = {metric: ranking.scores_by_seed(wide[metric], shift, single) for metric in ranked}
    pairs = {
        metric: pd.DataFrame(ranking.pair_rows(own, baselines), columns=[*ranking.PAIR_COLUMNS])
        for metric, own in seeds.items()
    }
    values = _join({metric: to_rows(wide[metric], "value") for metric in ranked})
    by_seed = {} if single else {name: to_rows(own, "ags") for name, own in seeds.items()}
    drawn = _join({name: curves(own, name, shift, baselines) for name, own in wide.items()})
    open_set = _near_and_far(drawn, OPEN_SET)
    if len(open_set):  # when choosing the threshold again, to accept 5% of unknown queries
        open_set["rechosen_false_rejects_far"] = 1 - open_set["tar@0.05_far"]
    return {
        "curves": drawn,
        "open_set": open_set,
        "compression": compression_table(drawn),
        "seeds": values.assign(shift=values["split"].map(shift).astype(float)),
        "ags": _join({metric: _scores(rows[metric], metric, pairs[metric]) for metric in ranked}),
        "ags_by_seed": _join(by_seed).reindex(columns=["metric", "method", "seed", "ags"]),
        "pairs": _join(pairs),
        "ranks": _join({metric: _ranks(wide[metric], baselines) for metric in ranked}),
        "few_shot": _join({metric: few_shot_gains(rows[metric], metric) for metric in ranked}),
        "near_and_far": _join({metric: near_and_far(rows[metric], metric) for metric in ranked}),
    }


def _join(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One table with the column `metric` of the tables of several metrics."""
    filled = {name: frame for name, frame in frames.items() if len(frame)}
    if not filled:
        columns = next(iter(frames.values())).columns if frames else ()
        return pd.DataFrame(columns=["metric", *columns])
    joined = pd.concat(filled, names=["metric", "row"]).reset_index(level="metric")
    return joined.reset_index(drop=True)


def _scores(table: pd.DataFrame, metric: str, pairs: pd.DataFrame) -> pd.DataFrame:
    """`compare_methods` with `shared_rank`: 1 plus the number of methods that are better than it,
    or than a method above it."""
    order = ranking.compare_methods(table, metric)
    above = pairs[pairs["probability"] >= SEPARATED].groupby("other").size()
    return order.assign(shared_rank=1 + order["method"].map(above).fillna(0).cummax().astype(int))


def _ranks(wide: pd.DataFrame, baselines: Collection[str]) -> pd.DataFrame:
    """One row per method and split; `separated` marks a method that is better than all others."""
    long = to_rows(ranking.ranks(wide), "rank")
    leaders = {
        split: ranking.separated_leader(ranking.pair_rows(wide[split].unstack("method"), baselines))
        for split in wide
    }
    return long.assign(separated=long["split"].map(leaders) == long["method"])


def _findings(
    folder: StudyFolder,
    rows: Mapping[str, pd.DataFrame],
    scores: pd.DataFrame,
    correlations: pd.DataFrame,
) -> pd.DataFrame:
    """The findings by each metric; the one about structure, which takes long, by the first."""
    models, answers = _models(folder), dict[str, pd.DataFrame]()
    backbones = {name: str(one["backbone"]) for name, one in models.items() if "backbone" in one}
    for metric, own in scores.groupby("metric", sort=False):
        every = findings(rows[str(metric)], str(metric), backbones, correlations, own)
        shown = [one for one in every if not answers or "structure" not in one.question.lower()]
        answers[str(metric)] = pd.DataFrame(shown, columns=["question", "answer", "figures"])
    return _join(answers)


def _published(folder: StudyFolder) -> pd.DataFrame:
    progression = folder.progression
    if progression is None or folder.plan.smoke:
        return pd.DataFrame(columns=["metric"])
    shift = [split.shift for split in progression]
    return comparable_curves(folder.data, shift, progression.backbone, _models(folder))


def _models(folder: StudyFolder) -> dict[str, Mapping[str, Any]]:
    runs = folder.runs.values()
    return {str(run.get("label", run.get("method"))): run.get("model") or {} for run in runs}


def _runs(folder: StudyFolder) -> pd.DataFrame:
    table = folder.table[folder.table["stage"] == Stage.ZERO_SHOT]
    named = table.drop_duplicates("run").sort_values(["method", "seed", "shift"])
    runs = named.loc[named["run"].isin([*folder.runs]), ["run", "method", "split", "seed"]]
    costs = [folder.runs[run] for run in runs["run"]]
    seconds = [float(cost.get("seconds") or np.nan) for cost in costs]
    hosts = [str(cost.get("host", "")) for cost in costs]
    return runs.assign(seconds=seconds, host=hosts).reset_index(drop=True)


def select(tables: Mapping[str, pd.DataFrame], name: str, metric: str) -> pd.DataFrame:
    """The rows of one metric, without the column `metric`."""
    table = tables[name]
    return table[table["metric"] == metric].drop(columns="metric").reset_index(drop=True)


def curves(
    wide: pd.DataFrame, metric: str, shift: "pd.Series[float]", baselines: Collection[str] = ()
) -> pd.DataFrame:
    """One row per method and split: `shift`, the `mean` over seeds with its 95% interval (`low`,
    `high`, clipped to the metric's bounds), and the number `n` of seeds; from `zero_shot`."""
    rows = []
    for method, values in wide.groupby(level="method", sort=True):
        for split, column in zip(wide.columns, values.to_numpy().T, strict=True):
            if len(seeds := column[~np.isnan(column)]):
                interval = method_interval(seeds, str(method) in baselines)
                rows.append((method, split, shift[split], *interval))
    frame = pd.DataFrame(rows, columns=["method", "split", "shift", *INTERVAL])
    return clip_to_bounds(frame, metric, ("low", "high"))


def further_levels(table: pd.DataFrame | None) -> pd.DataFrame:
    """The quality metrics of each method on further datasets, which no curve includes.

    From the rows of the stage "test_data", or None: one row per metric, dataset, split, and method
    with the columns of `curves`.
    """
    keys = ["metric", "data", "split", "shift", "method"]
    if table is None:
        return pd.DataFrame(columns=[*keys, *INTERVAL])
    baselines, frames = baselines_of(table), []
    for metric in sort_metrics(name for name in table["metric"].unique() if is_quality(name)):
        groups = table[table["metric"] == metric].groupby(keys, dropna=False)["value"]
        rows = [(*key, *method_interval(values, key[-1] in baselines)) for key, values in groups]
        frame = pd.DataFrame(rows, columns=[*keys, *INTERVAL])
        order = {"data": True, "shift": True, "split": True, "mean": False}
        frame = frame.sort_values([*order], ascending=[*order.values()])
        frames.append(clip_to_bounds(frame, metric, ("low", "high")))
    return pd.concat(frames, ignore_index=True)


def split_sizes(
    table: pd.DataFrame, progression: Progression | None, sizes: Mapping[str, int]
) -> pd.DataFrame:
    """The size of each split, from the number of images of each class.

    One row per split, by ascending shift: `shift`, the number of `train` and `test` classes, and
    the number of test `images`. Unknown counts are NA.
    """
    counts = {
        str(one.step): {
            "train": len(one.train), "test": len(one.test),
            "images": sum(sizes.get(name, 0) for name in one.test) if sizes else None,
        }
        for one in progression or ()
    }  # fmt: skip
    frame = shifts(table).to_frame()
    for name in ("train", "test", "images"):
        frame[name] = [counts.get(split, {}).get(name) for split in frame.index]
    return frame.reset_index().astype(dict.fromkeys(("train", "test", "images"), "Int64"))


def chance_levels(
    table: pd.DataFrame, progression: Progression | None, sizes: Mapping[str, int]
) -> pd.DataFrame:
    """The chance level of each metric on each split whose test classes and sizes are known.

    For retrieval, that of a random ranking; for clustering, that of random clusters, as many as
    classes (one draw). The columns are `metric`, `split`, `shift`, and `chance`.
    """
    known = {str(split.step): split.test for split in progression or ()}
    names = [name for name in ranked_metrics(table) if find_metric(name).chance is not None]
    ks = cutoffs(names) or (1,)
    rows = []
    for split, shift in shifts(table).items():
        counts = np.array([sizes.get(c, 0) for c in known.get(str(split), ())], dtype=np.int64)
        if counts.max(initial=0) > 1:
            positives = np.repeat(counts.astype(np.float64) - 1, counts)
            levels = chance_metrics(positives, len(positives) - 1, ks=ks)
            levels |= chance_clustering(counts)
            rows += [(name, split, shift, levels[name]) for name in names if name in levels]
    frame = pd.DataFrame(rows, columns=["metric", "split", "shift", "chance"])
    return frame.sort_values("metric", key=lambda names_: names_.map(names.index), kind="stable")


def chance_scores(table: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The AGS of chance for each metric with a chance level on every split."""
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


def _near_and_far(curves: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Means of metrics on the splits of smallest (`NAME_near`) and largest shift (`NAME_far`)."""
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


def compression_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The loss of Recall@1 by each code on the splits of smallest and largest shift.

    One row per method and code: `size` (relative to float32), `near`, `far` (Recall@1),
    `loss_near`, `loss_far`, and their `ratio` if the first is positive.
    """
    rows = []
    for code, size in SIZES.items():
        name = f"recall@1_{code}"
        for one in _near_and_far(curves, ("recall@1", name)).to_dict("records"):
            near, far = (one[f"recall@1_{x}"] - one[f"{name}_{x}"] for x in ("near", "far"))
            values = one[f"{name}_near"], one[f"{name}_far"], near, far
            rows.append((one["method"], name, size, *values, far / near if near > 0 else np.nan))
    columns = ["method", "code", "size", "near", "far", "loss_near", "loss_far", "ratio"]
    return pd.DataFrame(rows, columns=columns)
