"""How much higher a result would be with the best test epoch: a diagnostic, never a result."""

import pandas as pd

from oodml.analysis.intervals import student_interval
from oodml.analysis.table import shifts
from oodml.results.schema import Stage

GAP_COLUMNS = (
    "method", "split", "shift", "chosen", "best", "gap", "gap_low", "gap_high", "seeds",
    "chosen_epoch", "best_epoch",
)  # fmt: skip


def epoch_gap(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """Compare the epoch selected on validation classes with the best epoch on test classes.

    The best of many test evaluations is high by chance too, so a gap above zero is no sign of a
    bad selection. Runs with `refit` are evaluated during their refit, which ends at the selected
    epoch; their gap is understated.

    Returns:
        One row per method and split, by ascending shift; empty if no run recorded its epochs.
        `chosen` and `best` are means of the metric over seeds that have both. `gap` is their
        paired difference with its 95% Student-t interval over seeds.
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
    shift = shifts(table)
    gaps = [
        (method, split, shift[str(split)], *_summary(group))
        for (method, split), group in wide.groupby(["method", "split"])
    ]
    frame = pd.DataFrame(gaps, columns=[*GAP_COLUMNS])
    return frame.sort_values(["method", "shift"], kind="stable").reset_index(drop=True)


def _summary(group: pd.DataFrame) -> tuple[float, ...]:
    gap = student_interval(group["best"] - group["chosen"])
    means = [float(group[name].mean()) for name in ("chosen", "best")]
    epochs = [float(group[name].mean()) for name in ("chosen_epoch", "best_epoch")]
    return (*means, gap.mean, gap.low, gap.high, gap.n, *epochs)
