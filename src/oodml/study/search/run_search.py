"""Running a search: one round of trials after another, then the study with the chosen options."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from oodml.datasets import open_images
from oodml.files import write_text
from oodml.images.fingerprint import Log, no_log
from oodml.images.image_set import ImageSet
from oodml.model import parse_model_settings
from oodml.model_input import check_images
from oodml.results.plan import StudyPlan
from oodml.shift.files import read_splits, write_splits
from oodml.shift.splits import Progression
from oodml.study import run as study_run
from oodml.study.folder.store import Store
from oodml.study.plan import planned_progression_key, progression_key
from oodml.study.prepare import precompute_features, prepare
from oodml.study.search.sampler import sampler_name
from oodml.study.search.trials import (
    MethodSearch,
    method_searches,
    plan_search,
    rounds,
    searched_split,
)
from oodml.study.spec.study_file import Study
from oodml.study.spec.tables import Table
from oodml.study.spec.variants import PARTS, Variant
from oodml.study.workers.work import Execute

TRIAL_COLUMNS = ("method", "trial", "run", "values", "value", "epoch", "seconds", "failed")
NOT_SHARED = ("image_size",)
"""Keys of [model] that [splits] would inherit; every method sets them itself."""

RunWorkers = Callable[[Store, Execute | None], None]
"""Executes the planned runs of a store, on any executor."""


def run_search(
    study: Study,
    store: Store,
    run_workers: RunWorkers,
    *,
    execute_trial: Execute | None = None,
    device: str | None = None,
    retry: bool = False,
    smoke: bool = False,
    artifact_options: Mapping[str, Any] | None = None,
    log: Log = no_log,
) -> Study:
    """Choose the options of a study that have ranges. Finished trials are not repeated."""
    if study.search is None:
        return study
    images = open_images(study.data.name, **study.data.options)
    key = progression_key(study, images)
    if planned_progression_key(store) != key:
        only_splits = study.model_copy(update={"variants": ()})
        prepare(only_splits, store, smoke=smoke, device=device, log=log)
    progression = read_splits(store.splits)
    searches = method_searches(study, progression, images)
    if not searches:  # a smoke test fixes every key that has a range
        return study.model_copy(update={"search": None})
    split = searched_split(progression, study.search)
    trials = _open_trials(store, replace(progression, splits=(split,)), retry)
    labels = ", ".join(one.variant.label for one in searches)
    log(f"search: {study.search.trials} trials each of {labels}, on the validation classes of "
        f"split {split.step}")  # fmt: skip
    log = cache(log)  # every round needs the same features
    for sampled in rounds(searches):
        plan = plan_search(study, searches, progression, images, key)
        plan = plan.model_copy(update={"keeping": dict(artifact_options or {})})
        _settle(plan, trials, run_workers, execute_trial, images, device, log)
        for one, some in sampled:
            one.read_outcomes(some, trials)
        write_trials(searches, trials.folder / "trials.csv")
    chosen = with_chosen_options(study, searches, str(split.step), trials.folder)
    write_chosen(chosen, trials.folder / "chosen.toml")
    trials.clean_up()
    return chosen


def _open_trials(store: Store, progression: Progression, retry: bool) -> Store:
    trials = Store(store.folder / "search")
    trials.create()
    write_splits(progression, trials.splits)
    if retry:
        trials.clear_failures()
    return trials


def replay(searches: Sequence[MethodSearch], trials: Store) -> bool:
    """Sample as many rounds as the stored trials allow; return whether the search is complete."""
    for sampled in rounds(searches):
        if not all(trials.is_settled(one.run.id) for _, some in sampled for one in some):
            return False
        for one, some in sampled:
            one.read_outcomes(some, trials)
    return True


def with_chosen_options(
    study: Study, searches: Sequence[MethodSearch], step: str, folder: Path
) -> Study:
    """The study with the best options of every searched method, and a record of the search."""
    best = {one.variant.label: one.best(folder) for one in searches}
    variants = [
        variant.with_values(best[variant.label].values if variant.label in best else {})
        for variant in study.variants
    ]
    settings = {} if study.search is None else study.search.model_dump()
    record = settings | {"split": step, "sampler": sampler_name()}
    record["methods"] = {one.variant.label: _record(one, folder) for one in searches}
    return study.model_copy(update={"variants": tuple(variants), "search": None, "chosen": record})


def _record(search: MethodSearch, folder: Path) -> dict[str, Any]:
    best = search.best(folder)
    variant = search.variant.with_values(best.values)
    return {
        "ranges": {name: one.describe() for name, one in search.variant.ranges.items()},
        "chosen": {name: variant.value(name) for name in search.variant.ranges},
        "trial": best.number,
        "value": best.outcome.value,
        "epoch": best.outcome.epoch,
        "default": search.trials[0].outcome.value,
        "trials": len(search.trials),
        "failed": sum(trial.outcome.value is None for trial in search.trials),
    }


def _settle(
    plan: StudyPlan,
    trials: Store,
    run_workers: RunWorkers,
    execute_trial: Execute | None,
    images: ImageSet,
    device: str | None,
    log: Log,
) -> None:
    """Execute all trials of the plan. A process that lags behind may write an older plan."""
    while missing := trials.unsettled(plan.runs):
        trials.write_plan(plan)
        if execute_trial is None:
            check_images(images, [parse_model_settings(run.model) for run in missing], log)
            precompute_features(missing, images, trials, device, log)
        run_workers(trials, execute_trial or study_run.execute_trial)
    if not trials.plan_file.exists() or trials.read_plan() != plan:
        trials.write_plan(plan)


def write_trials(searches: Iterable[MethodSearch], file: Path) -> None:
    """Write all trials so far as CSV, one row per trial; its option values are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TRIAL_COLUMNS)
    for search in searches:
        for trial in search.trials:
            row = (search.variant.label, trial.number, trial.run.id, json.dumps(trial.values))
            writer.writerow((*row, *astuple(trial.outcome)))
    write_text(file, text.getvalue())


def write_chosen(study: Study, file: Path) -> None:
    chosen = study.chosen or {}
    comment = (
        f"# Options chosen from {chosen.get('trials')} trials of each method with ranges, by "
        f"{chosen.get('metric')} on\n# the validation classes of split {chosen.get('split')}. "
        "The file trials.csv lists all trials.\n"
    )
    write_text(file, comment + tomli_w.dumps(study_tables(study)))


def study_tables(study: Study) -> Table:
    """The tables of a file that parses to this study; paths are absolute, all keys explicit."""
    shared = {
        part: _common_items([_plain(getattr(variant, part)) for variant in study.variants])
        for part in PARTS
    }
    shared["model"] = {k: v for k, v in shared["model"].items() if k not in NOT_SHARED}
    return {
        "name": study.name,
        "data": {"name": study.data.name, **study.data.options},
        "shots": list(study.shots),
        "episodes": study.episodes,
        "splits": _plain(study.splits),
        **shared,
        "methods": {variant.label: _method_table(variant, shared) for variant in study.variants},
    }


def _method_table(variant: Variant, shared: Mapping[str, Table]) -> Table:
    options = {name: value for name, value in variant.options.items() if value is not None}
    table = {
        "method": variant.method,
        "seeds": list(variant.seeds),
        "few_shot": variant.few_shot,
        **options,
    }
    for part in PARTS:
        values = _plain(getattr(variant, part))
        own = {key: value for key, value in values.items() if key not in shared[part]}
        if own:
            table[part] = own
    return table


def _plain(settings: Any) -> Table:
    """Settings as TOML values, without those that are None, which is their default."""
    return {k: v for k, v in settings.model_dump(mode="json").items() if v is not None}


def _common_items(tables: Sequence[Table]) -> Table:
    first = tables[0] if tables else {}
    return {k: v for k, v in first.items() if all(k in t and t[k] == v for t in tables)}
