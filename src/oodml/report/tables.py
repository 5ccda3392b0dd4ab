"""Every table of a report, computed once. Page, terminal, CSV, and LaTeX only format them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from oodml.analysis.controls import size_effects
from oodml.analysis.epoch_gap import epoch_gap
from oodml.analysis.few_shot import few_shot_gains
from oodml.analysis.findings import findings
from oodml.analysis.intervals import SEPARATED
from oodml.analysis.near_far import near_and_far
from oodml.analysis.published import comparable_curves
from oodml.analysis.ranking import (
    compare_methods,
    compare_pairs,
    ranks,
    seed_scores,
    separated_leader,
)
from oodml.analysis.structure import (
    structure_correlations,
    structure_metrics_of,
    structure_points,
)
from oodml.analysis.table import metrics, ranked_metrics, shifts, to_rows, trained
from oodml.report.failures import failure_tables
from oodml.report.folder import StudyFolder
from oodml.report.level_and_gain import gains, losses, trial_scores
from oodml.report.series import (
    chance_levels,
    chance_scores,
    compression_table,
    curves,
    further_levels,
    image_counts,
    open_set_table,
    seed_values,
    split_sizes,
)
from oodml.report.superclasses import superclass_recalls
from oodml.results.schema import Stage

Tables = dict[str, pd.DataFrame]


def tables(folder: StudyFolder) -> Tables:
    """Compute every table of a study's report.

    Tables with the column `metric` cover several metrics; the others refer to the first ranked
    metric. Tables are empty where the study lacks what they need.

    Returns:
        - `curves`, `seeds`: each metric by method and split, as means and by seed.
        - `ags`, `ags_by_seed`, `pairs`, `ranks`: the ranking; see `compare_methods` and
          `compare_pairs`. With a single split, `pairs` compares on that split.
        - `few_shot`: see `few_shot_gains`.
        - `structure`, `structure_points`: correlations, and the points behind them.
        - `near_and_far`: gains over the baseline on the easiest and hardest split.
        - `progression`: the size of each split. `controls`: see `size_effects`.
        - `chance`, `chance_ags`: chance levels by split, and their AGS.
        - `findings`: question, answer, and figures, by metric.
        - `best_test_epoch_diagnostic`: see `epoch_gap`.
        - `recall_by_superclass`: Recall@1 of each superclass in each run.
        - `gains`, `losses`, `trial`: see `oodml.report.level_and_gain`.
        - `test_data`: each quality metric by further dataset, method, and split.
        - `published`: curves of the paper that are comparable with this study.
        - `open_set`, `compression`: see `oodml.report.series`.
        - `by_kind`, `by_class`, `confused_pairs`, `exceptions`, `explained`: see
          `oodml.report.failures`.
        - `runs`: seconds and host of each run.
    """
    table = folder.table
    ranked = ranked_metrics(table)
    main = ranked[0]
    rows = {name: table[table["metric"] == name] for name in metrics(table)}
    levels = chance_levels(
        table, folder.progression, image_counts(folder.images or folder.features)
    )
    recalls = superclass_recalls(folder)
    gain_table = gains(folder)
    correlations = structure_correlations(trained(table), main)
    rankings = _rankings(rows, ranked)
    drawn = _for_each([*rows], lambda metric: curves(rows[metric], metric))
    return {
        "curves": drawn,
        "open_set": open_set_table(drawn),
        "compression": compression_table(drawn),
        "seeds": _for_each(ranked, lambda metric: seed_values(rows[metric], metric)),
        **rankings,
        **failure_tables(folder, select(rankings, "ags", main)["method"].tolist()),
        "few_shot": _for_each(ranked, lambda metric: few_shot_gains(rows[metric], metric)),
        "structure": correlations,
        "structure_points": _structure_points(table, main),
        "near_and_far": _for_each(ranked, lambda metric: near_and_far(rows[metric], metric)),
        "progression": _progression(folder),
        "controls": pd.DataFrame()
        if folder.controls is None
        else size_effects(folder.controls, main),
        "chance": levels,
        "chance_ags": chance_scores(table, levels),
        "findings": _findings(folder, ranked, correlations),
        "best_test_epoch_diagnostic": epoch_gap(trained(table), main),
        "recall_by_superclass": recalls,
        "gains": gain_table,
        "losses": losses(folder, gain_table),
        "trial": trial_scores(folder),
        "published": _published(folder),
        "test_data": further_levels(folder.further),
        "runs": _runs(folder),
    }


def _rankings(rows: Mapping[str, pd.DataFrame], ranked: list[str]) -> Tables:
    order = shifts(rows[ranked[0]])
    single = None if order.nunique() > 1 else str(order.index[0])
    pairs = {metric: compare_pairs(rows[metric], metric, single) for metric in ranked}
    by_seed = [] if single else ranked
    return {
        "ags": _for_each(ranked, lambda metric: _scores(rows[metric], metric, pairs[metric])),
        "ags_by_seed": _for_each(by_seed, lambda metric: _scores_by_seed(rows[metric], metric)),
        "pairs": _for_each(ranked, pairs.__getitem__),
        "ranks": _for_each(ranked, lambda metric: _ranks(rows[metric], metric)),
    }


def _scores(table: pd.DataFrame, metric: str, pairs: pd.DataFrame) -> pd.DataFrame:
    """`compare_methods` with `shared_rank`: 1 plus the number of methods that are better."""
    order = compare_methods(table, metric)
    above = pairs[pairs["probability"] >= SEPARATED].groupby("other").size()
    return order.assign(shared_rank=1 + order["method"].map(above).fillna(0).astype(int))


def _scores_by_seed(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    return to_rows(seed_scores(table, metric), "ags")[["method", "seed", "ags"]]


def _ranks(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per method and split; `separated` marks a method that is better than all others."""
    wide = ranks(table, metric)
    long = to_rows(wide, "rank")
    leaders = {
        split: separated_leader(compare_pairs(table, metric, split)) for split in map(str, wide)
    }
    return long.assign(separated=long["split"].map(leaders) == long["method"])


def _findings(folder: StudyFolder, ranked: list[str], correlations: pd.DataFrame) -> pd.DataFrame:
    """The findings by each metric; the one about structure, which takes long, by the first."""
    main = ranked[0]

    def by_metric(metric: str) -> pd.DataFrame:
        answers = findings(folder.table, metric, _backbones(folder), correlations)
        kept = [one for one in answers if metric == main or "structure" not in one.question.lower()]
        return pd.DataFrame(kept, columns=["question", "answer", "figures"])

    return _for_each(ranked, by_metric)


def _structure_points(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    points = {
        name: structure_points(table, name, metric).rename(columns={"measure": "x", "metric": "y"})
        for name in structure_metrics_of(table)
    }
    return _concat([frame.assign(measure=name) for name, frame in points.items()])


def _progression(folder: StudyFolder) -> pd.DataFrame:
    counts = image_counts(folder.images or folder.features)
    return split_sizes(folder.table, folder.progression, counts)


def _published(folder: StudyFolder) -> pd.DataFrame:
    progression = folder.progression
    if progression is None or folder.plan.smoke:
        return pd.DataFrame(columns=["metric"])
    shift = [split.shift for split in progression]
    return comparable_curves(folder.data, shift, progression.backbone, _models(folder))


def _models(folder: StudyFolder) -> dict[str, Mapping[str, Any]]:
    return {
        str(run.get("label", run.get("method"))): run.get("model") or {}
        for run in folder.runs.values()
    }


def _backbones(folder: StudyFolder) -> dict[str, str]:
    models = _models(folder)
    return {name: str(model["backbone"]) for name, model in models.items() if "backbone" in model}


def _runs(folder: StudyFolder) -> pd.DataFrame:
    table = folder.table[folder.table["stage"] == Stage.ZERO_SHOT]
    named = table.drop_duplicates("run").sort_values(["method", "seed", "shift"])
    runs = named.loc[named["run"].isin([*folder.runs]), ["run", "method", "split", "seed"]]
    costs = [folder.runs[run] for run in runs["run"]]
    return runs.assign(
        seconds=[float(cost.get("seconds") or np.nan) for cost in costs],
        host=[str(cost.get("host", "")) for cost in costs],
    ).reset_index(drop=True)


def _for_each(names: list[str], compute: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    frames = {name: compute(name) for name in names}
    if all(frame.empty for frame in frames.values()):
        columns = next(iter(frames.values())).columns if frames else ()
        return pd.DataFrame(columns=["metric", *columns])
    filled = {name: frame for name, frame in frames.items() if len(frame)}
    joined = pd.concat(filled, names=["metric", "row"]).reset_index(level="metric")
    return joined.reset_index(drop=True)


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def select(tables: Mapping[str, pd.DataFrame], name: str, metric: str) -> pd.DataFrame:
    """The rows of one metric, without the column `metric`."""
    table = tables[name]
    return table[table["metric"] == metric].drop(columns="metric").reset_index(drop=True)
