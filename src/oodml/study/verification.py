"""Checking a study: whether its numbers are plausible, and whether a sample repeats."""

import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from oodml.catalog import names
from oodml.devices import resolve_device
from oodml.errors import OodmlError, error_at
from oodml.report.folder import StudyFolder, read_folder
from oodml.report.tables import chance_levels, image_counts
from oodml.results.metrics import check_bounds
from oodml.results.plan import RunPlan, StudyPlan, read_run
from oodml.results.schema import COLUMNS, Stage, read_results
from oodml.share.merge import largest_difference
from oodml.shift.files import read_splits
from oodml.study.folder.status import failure_reason
from oodml.study.folder.store import Store
from oodml.study.folder.table import read_run_rows
from oodml.study.plan import run_from_plan
from oodml.study.workers.work import work
from oodml.user_code import user_code_names

ROUNDING = 1e-4
"""The largest difference, relative to values above 1, that counts as rounding."""
Outcome = Literal["equal", "rounding", "different", "failed"]


@dataclass(frozen=True)
class Repeat:
    """A run that was repeated: "equal" to the bit, within `ROUNDING`, "different", or "failed"."""

    run: RunPlan
    outcome: Outcome
    metric: str = ""
    before: float = float("nan")
    now: float = float("nan")
    environment: Mapping[str, tuple[str, str]] | None = None
    reason: str = ""
    only: tuple[str, ...] = ()

    def __str__(self) -> str:
        notes = [f"{name} {old} → {new}" for name, (old, new) in (self.environment or {}).items()]
        text = {
            "equal": "equal to the bit",
            "rounding": f"equal within rounding, at most {abs(self.before - self.now):.1e} "
            f"({self.metric})",
            "different": f"DIFFERENT: {self.metric} was {self.before:.6g}, now {self.now:.6g}",
            "failed": f"FAILED: {self.reason}",
        }[self.outcome]
        text += f"; environment: {', '.join(notes)}" if notes else ""
        text += f"; not compared: {', '.join(self.only)}" if self.only else ""
        return f"{self.run.description}: {text}"


def find_problems(folder: str | Path) -> list[str]:
    """What is not plausible in a study: one sentence each.

    Numbers belong to a planned run with a record and to a split, are within their bounds, and are
    not far below chance; ids follow from settings; no two trained runs have the same numbers.
    """
    study = read_folder(folder)
    table = read_results(study.path / "results.parquet")
    splits = read_splits(study.path / "splits.json")  # refuses classes on both sides
    by_step = {str(split.step): split for split in splits}
    runs, planned = set(table["run"]), {run.id for run in study.plan.runs}
    problems = [f"run {run} is not in plan.json" for run in runs - planned]
    problems += [f"run {run} has no run.json" for run in runs - set(study.runs)]
    problems += [f"split {step} is not in splits.json" for step in {*table["split"]} - {*by_step}]
    own = table[table["stage"] != Stage.TEST_DATA].drop_duplicates("split")
    for step, shift in zip(own["split"], own["shift"], strict=True):
        if step in by_step and abs(by_step[step].shift - shift) > 1e-9 * abs(shift):
            problems.append(f"split {step}: shift {shift:g} in results, other in splits.json")
    for run in study.plan.runs:
        # The id of a run with a weights file depends on its content, which a pack does not have.
        checked = run.split in by_step and run.model.get("weights") in (None, "none")
        if checked and run_from_plan(run, by_step[run.split]).id != run.id:
            problems.append(f"run {run.id}: its id does not follow from its settings")
    return [*sorted(problems), *_value_problems(table, study)]


def _value_problems(table: pd.DataFrame, study: StudyFolder) -> Iterator[str]:
    for name, value in zip(table["metric"], table["value"], strict=True):
        try:
            check_bounds(str(name), float(value))
        except OodmlError as error:
            yield str(error)
    rows = table[table["stage"] == Stage.ZERO_SHOT]
    trained = rows[rows["trains"].astype(bool)]
    wide = trained.pivot_table(index="run", columns="metric", values="value")
    for _, group in wide.groupby([*wide.columns], dropna=False):
        if len(group) > 1 and len(wide.columns) > 1:
            yield f"runs {', '.join(map(str, group.index))} have the same numbers"
    sizes = image_counts(study.images or study.features)
    levels = chance_levels(study.table, study.progression, sizes)
    rows = rows.merge(levels, on=["metric", "split"])  # controls have no chance level
    for row in rows[rows["value"] < 0.5 * rows["chance"]].to_dict("records"):
        value, chance = f"{row['value']:.4g}", f"{row['chance']:.4g}"
        yield f"run {row['run']}: {row['metric']} {value} is far below chance ({chance})"


def repeat_runs(
    folder: str | Path,
    n: int = 2,
    *,
    seed: int = 0,
    data: str | Path | None = None,
    device: str | None = None,
    trust_code: bool = False,
) -> list[Repeat]:
    """Repeat a random sample of a study's finished runs, and compare the numbers."""
    store = Store(Path(folder))
    plan = store.read_plan()
    finished = [run for run in plan.runs if (store.runs / run.id / "run.json").exists()]
    if not (chosen := random.Random(seed).sample(finished, min(n, len(finished)))):
        raise error_at(folder, "no finished runs to repeat")
    folders = (*plan.import_from, str(Path.cwd())) if trust_code else ()
    source = _locate_data(plan, data)
    changes = {"runs": tuple(chosen), "keeping": {}, "source": source, "import_from": folders}
    plan = plan.model_copy(update=changes)
    settings: Any = {"runs": {"__all__": {"method", "options", "model", "adapt"}}}
    values = plan.model_dump(include=settings | {"source": True, "test_sources": True})
    if not trust_code and (used := user_code_names(values)):
        problem = f"the study runs user code ({', '.join(used)}). To trust it, pass --trust-code."
        raise OodmlError(problem, "--trust-code", used)
    with tempfile.TemporaryDirectory() as temporary:
        again = Store(Path(temporary))
        again.create()
        shutil.copyfile(store.splits, again.splits)
        again.write_plan(plan)
        work(again.folder, device=str(resolve_device(device)))
        results = read_results(store.results)
        return [_compare(run, results, store, again) for run in chosen]


def _compare(run: RunPlan, results: pd.DataFrame, store: Store, again: Store) -> Repeat:
    if (failure := again.failure_file(run.id)).exists():
        return Repeat(run, "failed", reason=failure_reason(failure))
    before, now = (read_run(one.runs / run.id / "run.json") for one in (store, again))
    old, new = ({**one.versions, **one.hardware} for one in (before, now))
    pairs = {name: (old.get(name, "unknown"), new.get(name, "unknown")) for name in old | new}
    environment = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    old_rows = results.loc[results["run"] == run.id, [*COLUMNS]]
    new_rows = read_run_rows(again.runs / run.id)
    only = tuple(sorted(set(old_rows["metric"]) ^ set(new_rows["metric"])))
    worst = largest_difference(old_rows, new_rows, how="inner")
    if worst is None:
        return Repeat(run, "equal", environment=environment, only=only)
    rounding = abs(worst[1] - worst[2]) <= ROUNDING * max(1.0, abs(worst[1]))
    outcome: Outcome = "rounding" if rounding else "different"
    return Repeat(run, outcome, *worst, environment, only=only)


def _locate_data(plan: StudyPlan, data: str | Path | None) -> dict[str, Any]:
    """The source of the images, which a pack does not know if they are in a folder."""
    source: dict[str, Any] = {"options": {}, **plan.source}
    if data is None and not source.get("name"):
        problem = f"the study does not say where the images of {plan.runs[0].data} are; pass --data"
        raise OodmlError(problem, location="--data")
    if data is not None and source.get("name") in names("datasets"):
        return {**source, "options": {**source["options"], "root": str(data)}}
    return source if data is None else {**source, "name": str(data)}
