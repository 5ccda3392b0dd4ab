"""The results table of a study, collected run by run as they finish."""

from pathlib import Path

import pandas as pd

from oodml.errors import error_at
from oodml.results.plan import StudyPlan
from oodml.results.schema import COLUMNS, empty_results, is_unmodified, result_rows, write_results
from oodml.study.folder.store import Store

_COMPARED = ["run", "stage", "shots", "episode", "metric", "value"]


class ResultsTable:
    """Writes `results.parquet` from the rows of the finished runs; reads each run's rows once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rows: dict[tuple[str, ...], pd.DataFrame] = {}

    def write(self) -> int:
        """Update `results.parquet`, and return the number of runs in it."""
        while True:
            plan = self.store.read_plan()
            if not plan.progression:  # another process is building the splits
                return 0
            refuse_foreign_rows(self.store)
            folders, parts = self._folders(plan), []
            for run in (run for run in plan.runs if run.id in folders):
                key = (str(folders[run.id]), run.label, run.split)  # a label or step may be new
                if key not in self._rows:
                    rows = read_run_rows(folders[run.id])
                    self._rows[key] = result_rows(rows, run.identity, run.test_shifts)
                parts.append(self._rows[key])
            table = pd.concat(parts, ignore_index=True) if parts else empty_results()
            write_results(table, self.store.results, plan.baselines, plan.smoke)
            if self._folders(plan) == folders:
                return len(folders)

    def _folders(self, plan: StudyPlan) -> dict[str, Path]:
        planned, folders = {run.id for run in plan.runs}, self.store.result_folders()
        return {run: folder for run, folder in folders.items() if run in planned}


def write_run_rows(rows: pd.DataFrame, folder: Path) -> None:
    types = {name: COLUMNS[name] for name in rows.columns if name in COLUMNS}
    rows.astype(types).to_parquet(folder / "rows.parquet", index=False)


def read_run_rows(folder: Path) -> pd.DataFrame:
    path = folder / "rows.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        remedy = f"Delete {folder} and run the study again; only this run is repeated."
        raise error_at(path, f"damaged or missing ({error}). {remedy}") from error


def refuse_foreign_rows(store: Store) -> None:
    """Check that the study wrote every row of its results table."""
    path = store.results
    if not path.exists() or is_unmodified(path):
        return
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError):
        return  # damaged; it is written again
    folders = store.result_folders()
    planned = {run.id for run in store.read_plan().runs} if store.plan_file.exists() else set()
    own = [read_run_rows(folder).assign(run=run) for run, folder in folders.items()]
    written = {row for rows in own for row in _comparable(rows)}
    rows = table[~table["run"].isin(planned - folders.keys())] if "run" in table else table
    foreign = sum(row not in written for row in _comparable(rows))
    columns = [str(name) for name in table.columns if name not in COLUMNS]
    if not foreign and not columns:
        return
    what = f"{foreign} rows" if foreign else f"the column {columns[0]!r}"
    problem = f"this study did not write {what}, and updating the table would erase them"
    remedy = "Move the file elsewhere, or pass --replace to remove it."
    raise error_at(path, f"{problem}. {remedy}", foreign or columns)


def _comparable(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    columns = rows.reindex(columns=_COMPARED).astype(object)
    return list(columns.where(columns.notna(), None).itertuples(index=False, name=None))
