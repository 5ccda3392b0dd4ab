"""Filtering the results table, and comparing two of its columns."""

from collections.abc import Mapping, Sequence

import pandas as pd

from oodml.errors import OodmlError, unknown
from oodml.results.schema import KEY_COLUMNS


def filter_rows(table: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The rows whose columns have one of the given values, compared as text."""
    for column, values in where.items():
        if column not in KEY_COLUMNS:
            raise unknown("column", column, KEY_COLUMNS)
        text = table[column].astype("str")
        for value in values:
            if not text.eq(value).any():
                raise unknown(column, value, text.dropna().unique().tolist())
        table = table[text.isin(values)]
    return table


def pivot(table: pd.DataFrame, rows: Sequence[str], columns: str) -> pd.DataFrame:
    """Means of `value` as text, for each value of `rows` (down) and of `columns` (across).

    A cell with several numbers (seeds, episodes) is "mean ± standard deviation". Rows and columns
    keep the order of the table.
    """
    for name in (*rows, columns):
        if name not in KEY_COLUMNS:
            raise unknown("column", name, KEY_COLUMNS)
    if len(set(rows)) < len(rows) or columns in rows:
        problem = f"--rows {','.join(rows)} --columns {columns}: use each column once"
        raise OodmlError(problem, "--columns", columns)
    if table.empty:
        raise OodmlError("no results yet; `oodml study status` shows the state of the study")
    keys = [*rows, columns]
    text = table[keys].astype("str").assign(value=table["value"])
    statistics = text.groupby(keys, sort=False)["value"].agg(["mean", "std", "count"])
    cells = [_format_cell(*one) for one in statistics.itertuples(index=False)]
    wide = pd.Series(cells, index=statistics.index).unstack(columns, fill_value="", sort=False)
    return wide[list(dict.fromkeys(text[columns]))]


def _format_cell(mean: float, deviation: float, count: int) -> str:
    return f"{mean:.4f}" if count == 1 else f"{mean:.4f} ± {deviation:.4f}"
