"""Size against shift: removal splits beside controls of their size without extra shift."""

import numpy as np
import pandas as pd

from oodml.analysis.intervals import Interval, student_interval
from oodml.analysis.table import standard_split, zero_shot

MARK = " control "
"""Stands in the step of a control, between the split it is matched to and its number."""


def is_control(split: str) -> bool:
    """Whether a split is a control, by its step: "R22 control 0"."""
    return MARK in split


def without_controls(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the progression itself."""
    return table[~table["split"].map(is_control).astype(bool)]


def size_effects(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """One row a (method, split with controls): what was lost to fewer classes, what to shift.

    by_size: from the standard split to the mean of the controls; by_shift: from there to the
    split itself; each with its 95% interval over seeds (`_low`, `_high`). Empty without controls.
    """
    controls = [split for split in table["split"].unique() if is_control(split)]
    rows = []
    if controls:
        wide = zero_shot(table, metric)
        for method, values in wide.groupby(level="method"):
            rows += _of_method(str(method), values, controls)
    ends = ("", "_low", "_high")
    names = [f"{name}{end}" for name in ("by_size", "by_shift") for end in ends]
    return pd.DataFrame(rows, columns=["method", "split", "controls", "value", *names])


def _of_method(
    method: str, values: pd.DataFrame, controls: list[str]
) -> list[dict[str, float | str | int]]:
    matched: dict[str, list[str]] = {}
    for control in controls:
        matched.setdefault(control.partition(MARK)[0], []).append(control)
    start = standard_split(values.columns)
    rows = []
    for split, names in matched.items():
        if start is None or split not in values.columns:
            continue
        middle = values[names].mean(axis=1)
        row: dict[str, float | str | int] = {
            "method": method, "split": split, "controls": len(names),
            "value": float(values[split].mean()),
        }  # fmt: skip
        for name, lost in (
            ("by_size", values[start] - middle), ("by_shift", middle - values[split])
        ):  # fmt: skip
            known = lost.dropna()
            found = student_interval(known) if len(known) else Interval(np.nan, np.nan, np.nan, 0)
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return rows
