"""Looking at the table of results: some of its rows, two of its columns against each other."""

from collections.abc import Mapping, Sequence

import pandas as pd

from oodml.errors import OodmlError, unknown
from oodml.results.schema import COLUMNS

KEYS = tuple(name for name in COLUMNS if name != "value")


def chosen(table: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The rows whose columns have one of the values asked for, compared as text."""
    for column, values in where.items():
        if column not in KEYS:
            raise unknown("column", column, KEYS)
        known = table[column].astype("str")
        for value in values:
            if not known.eq(value).any():
                raise unknown(column, value, known.dropna().unique().tolist(), "in these rows")
        table = table[known.isin(values)]
    return table


def pivot(table: pd.DataFrame, rows: Sequence[str], columns: str) -> pd.DataFrame:
    """Means of `value` for each value of `rows` (down) and of `columns` (across).

    Where a cell holds several numbers (seeds, episodes), "mean ± standard deviation" over them.
    The order is that in which things stand in the table.
    """
    for name in (*rows, columns):
        if name not in KEYS:
            raise unknown("column", name, KEYS)
    if len(set(rows)) < len(rows) or columns in rows:
        raise OodmlError(f"a column stands once: rows {', '.join(rows)}, columns {columns}")
    if table.empty:
        raise OodmlError("no results yet; `oodml study status` says why")
    keys = [*rows, columns]
    text = table[keys].astype("str").assign(value=table["value"])
    cells = text.groupby(keys, sort=False)["value"].agg(["mean", "std", "count"])
    told = [_told(*cell) for cell in cells.itertuples(index=False)]
    wide = pd.Series(told, index=cells.index).unstack(columns, fill_value="", sort=False)
    return wide[list(dict.fromkeys(text[columns]))]


def _told(mean: float, deviation: float, count: int) -> str:
    return f"{mean:.4f}" if count == 1 else f"{mean:.4f} ± {deviation:.4f}"
