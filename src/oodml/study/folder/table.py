"""The results table of a study, collected run by run as they finish."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from oodml.errors import OodmlError
from oodml.results.plan import RunPlan
from oodml.results.schema import empty_results, result_rows, write_results
from oodml.study.folder.store import Store


class ResultsTable:
    """Writes `results.parquet` from the rows of the finished runs; reads each run's rows once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rows: dict[tuple[str, ...], pd.DataFrame] = {}

    def write(self) -> int:
        """Update `results.parquet`, and return the number of runs in it.

        If a run finishes while the table is being written, it is written again, so no row is lost
        when several processes write it.
        """
        while True:
            plan = self.store.read_plan()
            finished = self._finished(plan.runs)
            write_results(self._join(finished), self.store.results, plan.baselines)
            if {run.id for run in self._finished(plan.runs)} == {run.id for run in finished}:
                return len(finished)

    def _finished(self, runs: Sequence[RunPlan]) -> list[RunPlan]:
        finished = self.store.finished_ids()
        return [run for run in runs if run.id in finished]

    def _join(self, runs: Sequence[RunPlan]) -> pd.DataFrame:
        parts = [self._rows_of(run) for run in runs]
        return pd.concat(parts, ignore_index=True) if parts else empty_results()

    def _rows_of(self, run: RunPlan) -> pd.DataFrame:
        """A run's rows under the names of the plan, where a label or step may be new."""
        key = (run.id, run.label, run.split)
        if key not in self._rows:
            self._rows[key] = result_rows(read_run_rows(self.store.runs / run.id), run.identity)
        return self._rows[key]


def read_run_rows(folder: Path) -> pd.DataFrame:
    """Read the rows of a run from its folder.

    Raises:
        OodmlError: if they are missing or damaged.
    """
    path = folder / "rows.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise OodmlError(
            f"{path}: damaged or missing ({error}). Delete {folder} and run the study again; only "
            "this run is repeated.",
            location=str(path),
        ) from error
