"""The results table: one number per row, with everything that identifies it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oodml.errors import OodmlError, error_at, unknown
from oodml.files import replacing

COLUMNS = {
    "run": "str", "data": "str", "split": "str", "shift": "float64", "method": "str",
    "seed": "int64", "stage": "str", "shots": "Int64", "episode": "Int64", "metric": "str",
    "value": "float64",
}  # fmt: skip
"""The columns of the results table and their pandas types."""
KEY_COLUMNS = tuple(name for name in COLUMNS if name != "value")
MEASURED_COLUMNS = ("stage", "shots", "episode", "metric", "value")
"""The columns that a run produces; the others come from its plan."""

_BASELINES, _SMOKE, _N_ROWS = b"oodml.baselines", b"oodml.smoke", b"oodml.n_rows"
_LEGACY_BASELINE = "frozen"
"""The only baseline that tables of earlier versions, which lack the metadata, can contain."""
STANDARD_STEP = 0
"""The step of the split that a progression starts from."""
STANDARD_SPLIT = str(STANDARD_STEP)
"""The standard split as the results table names it."""
_CONTROL = " control "


class Stage(StrEnum):
    """When a number was measured."""

    VALIDATION = "validation"
    ZERO_SHOT = "zero_shot"
    TRAINING = "training"
    """Properties of the training, such as the number of parameters that trained."""
    BEST_TEST_EPOCH = "best_test_epoch"
    BEFORE = "before"
    """Few-shot queries before adaptation."""
    AFTER = "after"
    """Few-shot queries after adaptation."""
    TEST_DATA = "test_data"
    """All classes of a further dataset. Its name is in `data`, and `shift` is measured to it."""


def control_step(step: int | str, seed: int) -> str:
    return f"{step}{_CONTROL}{seed}"


def controlled_step(step: int | str) -> str | None:
    """The step that a size-matched control belongs to; None if `step` is not a control."""
    parent, separator, _ = str(step).partition(_CONTROL)
    return parent if separator else None


def empty_results() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


def result_rows(
    rows: pd.DataFrame,
    identity: Mapping[str, Any],
    test_shifts: Mapping[str, float | None] | None = None,
) -> pd.DataFrame:
    """A run's measurements as typed rows of the results table.

    `rows` has the columns `MEASURED_COLUMNS`, and `data` in rows of the stage "test_data", whose
    shifts are `test_shifts` by name; `identity` has the remaining columns.
    """
    missing = [name for name in MEASURED_COLUMNS if name not in rows.columns]
    if missing:
        required = f"required: {', '.join(MEASURED_COLUMNS)}"
        problem = f"run {identity['run']}: column {missing[0]!r} is missing from its rows"
        raise OodmlError(f"{problem}; {required}", identity["run"], missing, MEASURED_COLUMNS)
    columns = {name: identity[name] for name in COLUMNS if name not in MEASURED_COLUMNS}
    table = rows.assign(**columns)
    if "data" in rows.columns:
        further = rows["stage"] == Stage.TEST_DATA
        table["data"] = table["data"].where(~further, rows["data"])
        table["shift"] = table["shift"].where(~further, rows["data"].map(test_shifts or {}))
    return table[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)


def on_progression(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without those measured on further datasets, which have no place on the curve."""
    return table[table["stage"] != Stage.TEST_DATA]


def write_results(
    table: pd.DataFrame, path: Path, baselines: Iterable[str] = (), smoke: bool = False
) -> None:
    """Write the results table; `baselines` are the methods (labels) that do not train."""
    rows = pa.Table.from_pandas(table[list(COLUMNS)], preserve_index=False)
    metadata = {
        **(rows.schema.metadata or {}),
        _BASELINES: json.dumps(sorted(set(baselines))).encode(),
        _SMOKE: json.dumps(smoke).encode(),
        _N_ROWS: json.dumps(len(rows)).encode(),
    }
    with replacing(path) as temporary:
        pq.write_table(rows.replace_schema_metadata(metadata), temporary)


def _has_metadata(path: Path, key: bytes, value: Callable[[pq.FileMetaData], str]) -> bool:
    try:
        footer = pq.read_metadata(path)
    except (OSError, ValueError):
        return False
    return (footer.metadata or {}).get(key) == value(footer).encode()


def is_smoke(path: Path) -> bool:
    return _has_metadata(path, _SMOKE, lambda _: "true")


def is_unmodified(path: Path) -> bool:
    """Whether `write_results` wrote a file, with all of its rows."""
    return _has_metadata(path, _N_ROWS, lambda footer: str(footer.num_rows))


def read_results(path: str | Path) -> pd.DataFrame:
    """Read and check a results table, and add the Boolean column "trains"."""
    source = Path(path)
    try:
        stored = pq.ParquetFile(source).read()
    except FileNotFoundError as error:
        raise error_at(source, "no such file; `oodml study run` writes it") from error
    except (OSError, ValueError) as error:
        remedy = "Delete it and run the study again; finished runs are not repeated."
        raise error_at(source, f"damaged or not a results table ({error}). {remedy}") from error
    listed = (stored.schema.metadata or {}).get(_BASELINES)
    baselines = json.loads(listed) if listed is not None else [_LEGACY_BASELINE]
    table = check_results(stored.to_pandas(), str(source))
    return table.assign(trains=~table["method"].isin(baselines))


def check_results(table: pd.DataFrame, location: str = "results table") -> pd.DataFrame:
    """Return the table unchanged if it is a valid results table."""
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        problem = f"column {missing[0]!r} is missing; required: {', '.join(COLUMNS)}"
        raise error_at(location, problem, missing, COLUMNS)
    key = [name for name in KEY_COLUMNS if name not in ("run", "shift")]
    repeated = table[table.duplicated(key)]
    if len(repeated):
        row = ", ".join(f"{name} {repeated.iloc[0][name]}" for name in key)
        raise error_at(location, f"{len(repeated)} numbers appear twice; the first: {row}", row)
    shifts = table.groupby(["data", "split"], observed=True)["shift"].nunique()
    if (shifts > 1).any():
        split = shifts[shifts > 1].index[0][1]
        message = f"split {split!r} has several shifts; a study has one progression"
        raise error_at(location, message, split)
    return table


def baselines_of(table: pd.DataFrame) -> set[str]:
    if "trains" not in table.columns:
        return {_LEGACY_BASELINE} & set(table["method"])
    return set(table.loc[~table["trains"].astype(bool), "method"])


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

    A cell of several numbers is "mean ± standard deviation"; the order is that of the table.
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
    cells = [
        f"{mean:.4f}" if count == 1 else f"{mean:.4f} ± {deviation:.4f}"
        for mean, deviation, count in statistics.itertuples(index=False)
    ]
    wide = pd.Series(cells, index=statistics.index).unstack(columns, fill_value="", sort=False)
    return wide[list(dict.fromkeys(text[columns]))]
