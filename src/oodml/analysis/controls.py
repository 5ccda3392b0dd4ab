"""Separates the effect of fewer classes from the effect of shift, with size-matched controls."""

import pandas as pd

from oodml.analysis.intervals import Interval, method_interval
from oodml.analysis.table import standard_split, zero_shot
from oodml.results.schema import baselines_of, controlled_step


def is_control(split: str) -> bool:
    """Whether a split is a size-matched control of another split."""
    return controlled_step(split) is not None


def without_controls(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the progression itself."""
    return table[~table["split"].map(is_control).astype(bool)]


def size_effects(table: pd.DataFrame, metric: str = "recall@1") -> pd.DataFrame:
    """How much of the loss on a split is due to fewer classes, and how much to shift.

    Returns:
        One row per method and split with controls; empty without controls. `by_size` is the loss
        from the standard split to the mean of the controls, `by_shift` the loss from there to
        the split itself. `_low` and `_high` are 95% intervals over seeds.
    """
    controls: dict[str, list[str]] = {}
    for split in table["split"].unique():
        if (parent := controlled_step(split)) is not None:
            controls.setdefault(parent, []).append(split)
    rows = []
    if controls:
        wide, baselines = zero_shot(table, metric), baselines_of(table)
        for method, values in wide.groupby(level="method"):
            rows += _method_effects(str(method), values, controls, str(method) in baselines)
    names = [f"{name}{end}" for name in ("by_size", "by_shift") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", "split", "controls", "value", *names])


def _method_effects(
    method: str, values: pd.DataFrame, controls: dict[str, list[str]], constant: bool
) -> list[dict[str, float | str | int]]:
    start = standard_split(values.columns)
    rows = []
    for split, names in controls.items():
        if start is None or split not in values.columns:
            continue
        middle = values[names].mean(axis=1)
        row: dict[str, float | str | int] = {
            "method": method, "split": split, "controls": len(names),
            "value": float(values[split].mean()),
        }  # fmt: skip
        for name, losses in (
            ("by_size", values[start] - middle), ("by_shift", middle - values[split])
        ):  # fmt: skip
            known = losses.dropna()
            loss = method_interval(known, constant) if len(known) else Interval()
            row |= {name: loss.mean, f"{name}_low": loss.low, f"{name}_high": loss.high}
        rows.append(row)
    return rows
