"""What choosing the epoch on the test classes would have claimed: a diagnostic, never a result."""

import numpy as np
import pandas as pd

from oodml.analysis.intervals import Interval, student_interval
from oodml.analysis.table import shifts

STAGE = "best_test_epoch"
COLUMNS = (
    "method", "split", "shift", "chosen", "best", "gap", "gap_low", "gap_high", "seeds",
    "chosen_epoch", "best_epoch",
)  # fmt: skip


def epoch_gap(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """One row a (method, split): the epoch chosen on validation classes against the best on test.

    chosen, best: the metric at either epoch, means over the seeds that have both. gap: best minus
    chosen, paired, with its 95% Student-t interval over seeds (NaN with one). chosen_epoch,
    best_epoch: mean epochs. The best of many looks at the test classes is high by luck, too, so
    a gap above zero is no sign that validation chose badly. A run with `refit` is looked at in its
    refit, which ends at the chosen epoch: there the gap is understated. Easiest split first;
    empty where no run kept its epochs or the metric was not kept.
    """
    key = ["method", "split", "seed"]
    columns = {
        "chosen": ("zero_shot", metric), "best": (STAGE, metric),
        "chosen_epoch": ("validation", "epoch"), "best_epoch": (STAGE, "epoch"),
    }  # fmt: skip
    found = {}
    for name, (stage, what) in columns.items():
        rows = table[(table["stage"] == stage) & (table["metric"] == what)]
        found[name] = rows.set_index(key)["value"]
    wide = pd.DataFrame(found).dropna(subset=["chosen", "best"]).reset_index()
    shift = shifts(table)
    gaps = [
        (method, split, shift[str(split)], *_summary(group))
        for (method, split), group in wide.groupby(["method", "split"])
    ]
    frame = pd.DataFrame(gaps, columns=[*COLUMNS])
    return frame.sort_values(["method", "shift"], kind="stable").reset_index(drop=True)


def _summary(group: pd.DataFrame) -> tuple[float, ...]:
    gap: Interval = student_interval(group["best"] - group["chosen"])
    epochs = [float(np.mean(group[name])) for name in ("chosen_epoch", "best_epoch")]
    return (
        float(group["chosen"].mean()), float(group["best"].mean()),
        gap.mean, gap.low, gap.high, gap.n, *epochs,
    )  # fmt: skip
