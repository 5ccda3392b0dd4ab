"""Reading the results table: one number a row."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from oodml.errors import OodmlError, unknown

COLUMNS = (
    "run", "data", "split", "shift", "method", "seed",
    "stage", "shots", "episode", "metric", "value",
)  # fmt: skip
QUALITY = ("recall@", "map@", "map", "r_precision", "precision@", "mrr", "nmi", "ami", "f1")
"""How the names of measures of quality begin, in the order they are shown in."""
COUNTS = ("queries", "singletons", "positives")
BASELINE = "frozen"
"""The method that is no method: the features as they come, without training."""


def read_table(path: str | Path) -> pd.DataFrame:
    """The results table of a parquet file, checked."""
    source = Path(path)
    if not source.exists():
        raise OodmlError(f"{source}: no such file; `oodml study run` writes it")
    try:
        table = pd.read_parquet(source)
    except (OSError, ValueError) as error:
        raise OodmlError(f"{source}: not a readable results table: {error}") from error
    return checked(table, str(source))


def checked(table: pd.DataFrame, where: str = "results table") -> pd.DataFrame:
    """The table itself if it has the columns, no number twice, and one shift a split."""
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise OodmlError(f"{where}: column {missing[0]!r} is missing; needed: {', '.join(COLUMNS)}")
    key = ["data", "split", "method", "seed", "stage", "shots", "episode", "metric"]
    twice = table[table.duplicated(key)]
    if len(twice):
        row = ", ".join(f"{name} {twice.iloc[0][name]}" for name in key)
        raise OodmlError(f"{where}: {len(twice)} numbers stand there twice, the first: {row}")
    several = table.groupby(["data", "split"], observed=True)["shift"].nunique()
    if (several > 1).any():
        split = several[several > 1].index[0][1]
        raise OodmlError(f"{where}: split {split!r} has several shifts; one progression a study")
    return table


def shifts(table: pd.DataFrame) -> "pd.Series[float]":
    """The shift of each split of the table, easiest first."""
    found = table.drop_duplicates("split").set_index("split")["shift"].astype(float)
    return found.sort_values(kind="stable")


def methods(table: pd.DataFrame) -> list[str]:
    """The methods of the table, sorted, the frozen baseline last."""
    return sorted(table["method"].unique().tolist(), key=lambda name: (name == BASELINE, name))


def trained(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of all methods but the frozen baseline."""
    return table[table["method"] != BASELINE]


def metrics(table: pd.DataFrame, stage: str = "zero_shot") -> list[str]:
    """The metrics of a stage: Recall@1, other measures of quality, structure, published variants.

    Counts, such as of queries, are no metrics.
    """
    found = set(table.loc[table["stage"] == stage, "metric"].unique()) - {*COUNTS}
    return sorted(found, key=_place)


def _place(metric: str) -> tuple[bool, bool, int, str]:
    kind = next((k for k, start in enumerate(QUALITY) if metric.startswith(start)), len(QUALITY))
    return metric != "recall@1", "published" in metric, kind, metric


def is_quality(metric: str) -> bool:
    """Whether a metric says how good a retrieval or clustering is, rather than its structure."""
    return metric.startswith(QUALITY)


def limits(metric: str) -> tuple[float, float]:
    """The least and the most that a metric can be; AMI is negative below chance."""
    if metric.startswith("ami"):
        return -1.0, 1.0
    return (0.0, 1.0) if is_quality(metric) else (-np.inf, np.inf)


def zero_shot(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row a (method, seed), one column a split, easiest first.

    NaN where a run is missing, or where its value is infinite (a spectral decay may be).
    """
    allowed = metrics(table)
    if metric not in allowed:
        raise unknown("metric", metric, allowed, "results table")
    rows = table[(table["stage"] == "zero_shot") & (table["metric"] == metric)]
    wide = rows.pivot(index=["method", "seed"], columns="split", values="value")
    finite = wide.where(np.isfinite(wide))
    return finite.reindex(columns=_order(table, wide.columns))


def standard_split(splits: Iterable[str]) -> str | None:
    """The split that the progression started from, by its step 0."""
    return "0" if "0" in list(splits) else None


def _order(table: pd.DataFrame, present: Iterable[str]) -> list[str]:
    known = set(present)
    return [split for split in shifts(table).index if split in known]
