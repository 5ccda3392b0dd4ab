"""The table of results: one number a row, with what produced it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from oodml.errors import OodmlError
from oodml.files import replacing
from oodml.study.folder.store import Store

COLUMNS = {
    "run": "str",
    "data": "str",
    "split": "str",
    "shift": "float64",
    "method": "str",
    "seed": "int64",
    "stage": "str",
    "shots": "Int64",
    "episode": "Int64",
    "metric": "str",
    "value": "float64",
}
"""The table of results: one number a row, and what produced it."""
MEASURED = ("stage", "shots", "episode", "metric", "value")


def tidy(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """A run's measurements as rows of the table: what produced them, and the right types."""
    missing = [name for name in MEASURED if name not in rows.columns]
    if missing:
        raise OodmlError(
            f"run {settings['id']}: its rows lack {missing}; columns {MEASURED} are needed"
        )
    produced = {
        "run": settings["id"],
        "data": settings["data"],
        "split": settings["split"],
        "shift": settings["shift"],
        "method": settings["label"],
        "seed": settings["seed"],
    }
    return rows.assign(**produced)[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)


class Table:
    """The table of results, read run by run as they finish."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rows: dict[tuple[str, ...], pd.DataFrame] = {}

    def write(self) -> int:
        """Bring results.parquet up to date; gives the number of runs in it.

        Another process may finish and write in between; what it knew is never lost, because the
        folder is looked at again after writing.
        """
        while True:
            done = self._done()
            with replacing(self.store.results) as path:
                self._joined(done).to_parquet(path, index=False)
            if {run["id"] for run in self._done()} == {run["id"] for run in done}:
                return len(done)

    def _done(self) -> list[dict[str, Any]]:
        finished = self.store.finished()
        return [run for run in self.store.read_plan()["runs"] if run["id"] in finished]

    def _joined(self, runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        parts = [self._rows_of(run) for run in runs]
        return pd.concat(parts, ignore_index=True) if parts else empty_table()

    def _rows_of(self, run: Mapping[str, Any]) -> pd.DataFrame:
        """Its rows under the names of the plan: a label or a step may have been renamed."""
        key = (run["id"], run["label"], run["split"])
        if key not in self._rows:
            rows = read_rows(self.store.runs / run["id"] / "rows.parquet")
            self._rows[key] = tidy(rows, run)
        return self._rows[key]


def empty_table() -> pd.DataFrame:
    """The table of results without rows."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


def read_rows(path: Path) -> pd.DataFrame:
    """A parquet file of results; a damaged one is an error that says what to do."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise OodmlError(f"{path}: does not exist") from error
    except (OSError, ValueError) as error:
        lost = path if path.name == "results.parquet" else path.parent
        raise OodmlError(f"{path}: damaged ({error}). Delete {lost} and run the study again; "
                         "only what is missing is done anew.") from error  # fmt: skip
