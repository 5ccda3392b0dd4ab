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
from oodml.results.plan import RunPlan, StudyPlan, read_run, write_plan
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
    """A run that was repeated.

    Attributes:
        outcome: "equal" to the bit; within "rounding", see `ROUNDING`; "different"; "failed".
        metric, before, now: the number that differs most; "" and NaN if all are equal.
        environment: what differs in packages and hardware, as (before, now) by name.
    """

    run: RunPlan
    outcome: Outcome
    metric: str = ""
    before: float = float("nan")
    now: float = float("nan")
    environment: Mapping[str, tuple[str, str]] | None = None
    reason: str = ""
    only: tuple[str, ...] = ()

    def __str__(self) -> str:
        changed = ", ".join(f"{k} {a} → {b}" for k, (a, b) in (self.environment or {}).items())
        environment = f"; environment: {changed}" if changed else ""
        environment += f"; not compared: {', '.join(self.only)}" if self.only else ""
        texts = {
            "equal": "equal to the bit",
            "rounding": f"equal within rounding, at most {abs(self.before - self.now):.1e} "
            f"({self.metric})",
            "different": f"DIFFERENT: {self.metric} was {self.before:.6g}, now {self.now:.6g}",
            "failed": f"FAILED: {self.reason}",
        }
        return f"{self.run.description}: {texts[self.outcome]}{environment}"


def find_problems(folder: str | Path) -> list[str]:
    """What is not plausible in a study: one sentence each.

    Checks that every number belongs to a planned run with a record and to a split, that values
    are within their bounds and not far below chance, that run ids follow from the settings, that
    no class is on both sides of a split, and that no two trained runs have the same numbers.
    """
    study = read_folder(folder)
    table = read_results(study.path / "results.parquet")
    splits = read_splits(study.path / "splits.json")  # refuses classes on both sides
    by_step = {str(split.step): split for split in splits}
    planned = {run.id: run for run in study.plan.runs}
    problems = [f"run {run} is not in plan.json" for run in set(table["run"]) - set(planned)]
    problems += [
        f"split {step} is not in splits.json" for step in set(table["split"]) - set(by_step)
    ]
    problems += [f"run {run} has no run.json" for run in set(table["run"]) - set(study.runs)]
    own = table[table["stage"] != Stage.TEST_DATA].drop_duplicates("split")
    for step, shift in zip(own["split"], own["shift"], strict=True):
        if step in by_step and abs(by_step[step].shift - shift) > 1e-9 * abs(shift):
            problems.append(f"split {step}: shift {shift:g} in results, other in splits.json")
    for run in study.plan.runs:
        # The id of a run with a weights file depends on its content, which a pack does not have.
        checked = run.split in by_step and run.model.get("weights") in (None, "none")
        if checked and run_from_plan(run, by_step[run.split]).id != run.id:
            problems.append(f"run {run.id}: its id does not follow from its settings")
    return [*sorted(problems), *_value_problems(table), *_chance_problems(study)]


def _value_problems(table: pd.DataFrame) -> Iterator[str]:
    for name, value in zip(table["metric"], table["value"], strict=True):
        try:
            check_bounds(str(name), float(value))
        except OodmlError as error:
            yield str(error)
    trained = table[table["trains"].astype(bool) & (table["stage"] == Stage.ZERO_SHOT)]
    wide = trained.pivot_table(index="run", columns="metric", values="value")
    for _, group in wide.groupby([*wide.columns], dropna=False):
        if len(group) > 1 and len(wide.columns) > 1:
            yield f"runs {', '.join(map(str, group.index))} have the same numbers"


def _chance_problems(study: StudyFolder) -> Iterator[str]:
    sizes = image_counts(study.images or study.features)
    levels = chance_levels(study.table, study.progression, sizes)
    rows = study.table[study.table["stage"] == Stage.ZERO_SHOT]
    for row in rows.merge(levels, on=["metric", "split"]).to_dict("records"):
        if row["value"] < 0.5 * row["chance"]:
            yield (
                f"run {row['run']}: {row['metric']} {row['value']:.4g} is far below chance "
                f"({row['chance']:.4g})"
            )


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
    store, path = Store(Path(folder)), Path(folder)
    plan = store.read_plan()
    finished = [run for run in plan.runs if (store.runs / run.id / "run.json").exists()]
    chosen = random.Random(seed).sample(finished, min(n, len(finished)))
    if not chosen:
        raise error_at(path, "no finished runs to repeat")
    changes = {"runs": tuple(chosen), "keeping": {}, "source": _locate_data(plan, data)}
    changes["import_from"] = (*plan.import_from, str(Path.cwd())) if trust_code else ()
    plan = plan.model_copy(update=changes)
    if not trust_code:
        _refuse_user_code(plan)
    with tempfile.TemporaryDirectory() as temporary:
        again = Store(Path(temporary))
        again.create()
        shutil.copyfile(store.splits, again.splits)
        write_plan(plan, again.plan_file)
        work(again.folder, device=str(resolve_device(device)))
        results = read_results(store.results)
        return [_compare(run, results, store, again) for run in chosen]


def _compare(run: RunPlan, results: pd.DataFrame, store: Store, again: Store) -> Repeat:
    if (failure := again.failure_file(run.id)).exists():
        return Repeat(run, "failed", reason=failure_reason(failure.read_text("utf-8")))
    before, now = (read_run(one.runs / run.id / "run.json") for one in (store, again))
    old, new = ({**one.versions, **one.hardware} for one in (before, now))
    both = {name: (old.get(name, "unknown"), new.get(name, "unknown")) for name in old | new}
    environment = {name: pair for name, pair in both.items() if pair[0] != pair[1]}
    old_rows = results.loc[results["run"] == run.id, [*COLUMNS]]
    new_rows = read_run_rows(again.runs / run.id)
    only = tuple(sorted(set(old_rows["metric"]) ^ set(new_rows["metric"])))
    worst = largest_difference(old_rows, new_rows, how="inner")
    if worst is None:
        return Repeat(run, "equal", environment=environment, only=only)
    metric, first, second = worst
    is_rounding = abs(first - second) <= ROUNDING * max(1.0, abs(first))
    outcome: Outcome = "rounding" if is_rounding else "different"
    return Repeat(run, outcome, metric, first, second, environment, only=only)


def _locate_data(plan: StudyPlan, data: str | Path | None) -> dict[str, Any]:
    """The source of the images, which a pack does not know if they are in a folder."""
    source: dict[str, Any] = {"options": {}, **plan.source}
    if data is not None:
        if source.get("name") in names("datasets"):
            return {**source, "options": {**source["options"], "root": str(data)}}
        return {**source, "name": str(data)}
    if not source.get("name"):
        problem = f"the study does not say where the images of {plan.runs[0].data} are; pass --data"
        raise OodmlError(problem, location="--data")
    return source


def _refuse_user_code(plan: StudyPlan) -> None:
    fields = {"method", "options", "model", "adapt"}
    sources = (plan.source, *plan.test_sources.values())
    values = [run.model_dump(mode="json", include=fields) for run in plan.runs]
    if used := user_code_names([source.get("name") for source in sources], values):
        problem = f"the study runs user code ({', '.join(used)}). To trust it, pass --trust-code."
        raise OodmlError(problem, "--trust-code", used)
