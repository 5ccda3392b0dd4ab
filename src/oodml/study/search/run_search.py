"""Doing a search: round after round by whatever does runs, then the study with chosen options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from oodml.datasets import open_images
from oodml.images.image_set import ImageSet
from oodml.shift.files import read_splits, write_splits
from oodml.study.folder.store import Store
from oodml.study.prepare import embed_once, planned_key, prepare, progression_key
from oodml.study.search.files import write_chosen, write_trials
from oodml.study.search.sampler import sampler_name
from oodml.study.search.trials import (
    MethodSearch,
    method_searches,
    plan_of_search,
    rounds,
    searched_split,
)
from oodml.study.spec.study_file import Study
from oodml.study.workers.work import Execute

Do = Callable[[Store, Execute | None], None]
"""Has the planned runs of a store done, wherever they are done."""


def search(
    study: Study,
    store: Store,
    do: Do,
    *,
    trial: Execute | None = None,
    device: str | None = None,
    retry: bool = False,
    say: Callable[[str], object] = lambda _: None,
    keeping: Mapping[str, Any] | None = None,
) -> Study:
    """The study with the options that its search chooses; a study without a search as it is.

    store: of the study; trials are kept in its folder `search`. trial: what does a trial, by
    default a training. retry: do failed trials again. Trials that are finished are not repeated.
    keeping: as of `prepare`.
    Raises OodmlError if every trial of a method failed.
    """
    if study.search is None:
        return study
    images = open_images(study.data.name, **study.data.options)
    key = progression_key(study, images)
    if planned_key(store) != key:
        prepare(study.model_copy(update={"variants": ()}), store, device=device, say=say)
    progression = read_splits(store.folder / "splits.json")
    searches = method_searches(study, progression, images)
    if not searches:  # all that has a range is fixed in a smoke run
        return study.model_copy(update={"search": None})
    trials = Store(store.folder / "search")
    trials.prepare()
    split = searched_split(progression, study.search)
    write_splits(replace(progression, splits=(split,)), trials.folder / "splits.json")
    if retry:
        for run in trials.failed():
            trials.failure(run).unlink(missing_ok=True)
    say(f"search: {study.search.trials} trials of each of "
        f"{', '.join(one.variant.label for one in searches)}, on the validation classes of split "
        f"{split.step}")  # fmt: skip
    say = _once(say)
    for asked in rounds(searches):
        plan = plan_of_search(study, searches, progression, images, key)
        plan["keeping"] = dict(keeping or {})
        _settle(plan, trials, do, trial, images, device, say)
        for one, some in asked:
            one.tell(some, trials)
        write_trials(searches, trials.folder / "trials.csv")
    found = with_chosen(study, searches, str(split.step), trials.folder)
    write_chosen(found, trials.folder / "chosen.toml")
    trials.tidy_up()
    return found


def replayed(searches: Sequence[MethodSearch], trials: Store) -> bool:
    """Ask as far as the kept trials tell how to go on; whether that is to the end."""
    for asked in rounds(searches):
        if not all(trials.is_settled(one.run.id) for _, some in asked for one in some):
            return False
        for one, some in asked:
            one.tell(some, trials)
    return True


def with_chosen(study: Study, searches: Sequence[MethodSearch], step: str, folder: Path) -> Study:
    """The study with the best options of every searched method, and how they were found."""
    best = {one.variant.label: one.best(folder) for one in searches}
    variants = [
        variant.with_values(best[variant.label].values if variant.label in best else {})
        for variant in study.variants
    ]
    settings = {} if study.search is None else study.search.model_dump()
    record = settings | {"split": step, "sampler": sampler_name()}
    record["methods"] = {one.variant.label: _record(one, folder) for one in searches}
    return study.model_copy(update={"variants": tuple(variants), "search": None, "chosen": record})


def _record(one: MethodSearch, folder: Path) -> dict[str, Any]:
    best = one.best(folder)
    variant = one.variant.with_values(best.values)
    return {
        "ranges": {name: space.told() for name, space in one.variant.ranges.items()},
        "chosen": {name: variant.value(name) for name in one.variant.ranges},
        "trial": best.number,
        "value": best.outcome.value,
        "epoch": best.outcome.epoch,
        "default": one.trials[0].outcome.value,
        "trials": len(one.trials),
        "failed": sum(trial.outcome.value is None for trial in one.trials),
    }


def _settle(
    plan: Mapping[str, Any],
    trials: Store,
    do: Do,
    trial: Execute | None,
    images: ImageSet,
    device: str | None,
    say: Callable[[str], object],
) -> None:
    """Have all trials of the plan done. Another process that lags may write an older plan."""
    while left := _unsettled(plan, trials):
        trials.write_plan(plan)
        if trial is None:
            embed_once(left, images, device, say)
        do(trials, trial or _trial())
    if not (trials.folder / "plan.json").exists() or trials.read_plan() != plan:
        trials.write_plan(plan)


def _once(say: Callable[[str], object]) -> Callable[[str], object]:
    """Says the same thing only once: every round needs the same features."""
    said: set[str] = set()

    def speak(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return speak


def _unsettled(plan: Mapping[str, Any], trials: Store) -> list[dict[str, Any]]:
    settled = trials.finished() | trials.failed()
    return [entry for entry in plan["runs"] if entry["id"] not in settled]


def _trial() -> Execute:
    from oodml.study.run import execute_trial

    return execute_trial
