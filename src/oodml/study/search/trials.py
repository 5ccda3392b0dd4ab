"""The trials of a search: the same number for every method, on validation classes alone.

Trials are the runs of a study in `DIR/search`. A round of `ROUND` trials per method depends on the
study file and the previous rounds, not on the processes.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from oodml.errors import OodmlError, error_at, require
from oodml.files import write_text
from oodml.images.image_set import ImageSet
from oodml.randomness import derived_seed
from oodml.results.plan import RunPlan, StudyPlan, read_run
from oodml.results.schema import STANDARD_SPLIT, Stage
from oodml.shift.splits import Progression, Split
from oodml.study.folder.status import failure_reason
from oodml.study.folder.store import Store
from oodml.study.folder.table import read_run_rows
from oodml.study.plan import plan_runs, plan_study, progression_key
from oodml.study.spec.ranges import Choices, Range, SearchSettings
from oodml.study.spec.study_file import Study
from oodml.study.spec.variants import Variant

ROUND = 5
"""Number of trials of a method that are sampled at once; they can run at the same time."""
TRIAL_COLUMNS = ("method", "trial", "run", "values", "value", "epoch", "seconds", "failed")
RANDOM_TRIALS = 8
"""Random trials before the sampler uses outcomes. It is fixed, so that a budget can be raised."""


def _import_optuna() -> Any:
    optuna = require("search", "optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass
class Trial:
    """One training of a method with sampled values; the first trial uses the defaults.

    Once the trial is settled, `value` is its score, or None, with the `reason`, if it failed.
    """

    number: int
    values: dict[str, Any]
    run: RunPlan
    value: float | None = None
    epoch: int | None = None
    seconds: float | None = None
    reason: str = "not finished yet"

    def read_outcome(self, store: Store, metric: str) -> None:
        folder = store.runs / self.run.id
        if not folder.exists():
            self.reason = failure_reason(store.failure_file(self.run.id))
            return
        rows = read_run_rows(folder)
        values = rows[rows["stage"] == Stage.VALIDATION].set_index("metric")["value"]
        for name in metric.split("+"):
            if name not in values:
                needed = "a search needs one epoch or more, and validation classes with two images"
                raise error_at(folder, f"{name} of validation is missing; {needed}", name)
        self.value, self.reason = float(sum(values[name] for name in metric.split("+"))), ""
        self.epoch = int(values.get("epoch", 0))
        self.seconds = read_run(folder / "run.json").seconds


@dataclass
class MethodSearch:
    """Samples the trials of a method: the defaults, then at random, then where good trials are
    denser than bad ones (Bergstra et al., 2011).
    """

    variant: Variant
    settings: SearchSettings
    plan: Callable[[Variant], RunPlan]
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._optuna, self._pending = _import_optuna(), dict[int, Any]()
        self._distributions = {n: self._distribution(r) for n, r in self.variant.ranges.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna calls two of these options experimental
            sampler = self._optuna.samplers.TPESampler(
                n_startup_trials=RANDOM_TRIALS,
                multivariate=True,
                constant_liar=True,  # the trials of a round should differ
                seed=derived_seed(self.settings.seed, "search", self.variant.label) % 2**32,
            )
            self._study = self._optuna.create_study(direction="maximize", sampler=sampler)

    def _distribution(self, one: Range) -> Any:
        kinds = self._optuna.distributions
        if isinstance(one, Choices):
            return kinds.CategoricalDistribution(range(len(one.values)))
        kind = kinds.IntDistribution if one.whole else kinds.FloatDistribution
        low, high = (int(n) if one.whole else n for n in (one.low, one.high))
        return kind(low, high, log=one.log)

    def sample_round(self) -> list[Trial]:
        trials, done = [], len(self.trials)
        for number in range(done, min(done + ROUND, self.settings.trials)):
            values: dict[str, Any] = {}
            if number > 0:
                self._pending[number] = sampled = self._study.ask(self._distributions)
                ranges = self.variant.ranges.items()
                values = {name: one.value_of(sampled.params[name]) for name, one in ranges}
            run = self.plan(self.variant.with_values(values))
            run = run.model_copy(update={"trial": number, "values": values})
            trials.append(Trial(number, values, run))
        self.trials += trials
        return trials

    def read_outcomes(self, trials: Sequence[Trial], store: Store) -> None:
        """Read the outcomes of a round, and report them to optuna in the order of sampling."""
        states = self._optuna.trial.TrialState
        for trial in trials:
            trial.read_outcome(store, self.settings.metric)
            if trial.number > 0:
                state = states.PRUNED if trial.value is None else states.COMPLETE
                self._study.tell(self._pending[trial.number], trial.value, state=state)
            elif trial.value is not None:
                self._add_defaults(trial.value)

    def _add_defaults(self, value: float) -> None:
        """Report the value of the first trial, which counts if the defaults lie in all ranges."""
        ranges, variant = self.variant.ranges, self.variant
        params = {name: one.parameter_of(variant.value(name)) for name, one in ranges.items()}
        if None not in params.values():
            create, distributions = self._optuna.trial.create_trial, self._distributions
            self._study.add_trial(create(params=params, distributions=distributions, value=value))

    def best(self, folder: Path) -> Trial:
        scored = [(t.value, -t.number) for t in self.trials if t.value is not None]
        if not scored:
            problem = f"all {len(self.trials)} trials of {self.variant.label} failed"
            reason = f"{self.trials[0].reason}. See the tracebacks in {folder / 'failed'}"
            raise error_at(folder, f"{problem}: {reason}; pass --retry to repeat the trials.")
        return self.trials[-max(scored)[1]]


def method_searches(study: Study, progression: Progression, images: ImageSet) -> list[MethodSearch]:
    settings = study.search
    if settings is None:
        return []
    visible = replace(searched_split(progression, settings), test=(), episodes={})
    alone = replace(progression, splits=(visible,))

    def plan(variant: Variant) -> RunPlan:
        train = variant.train.model_copy(update={"refit": False, "keep_epochs": False})
        variant = variant.model_copy(update={"train": train, "seeds": (settings.seed,)})
        one = study.model_copy(update={"variants": (variant,), "shots": ()})
        return plan_runs(one, alone, images)[0]

    return [MethodSearch(variant, settings, plan) for variant in study.variants if variant.ranges]


def rounds(searches: Sequence[MethodSearch]) -> Iterator[list[tuple[MethodSearch, list[Trial]]]]:
    while incomplete := [one for one in searches if len(one.trials) < one.settings.trials]:
        yield [(one, one.sample_round()) for one in incomplete]


def searched_split(progression: Progression, settings: SearchSettings) -> Split:
    """The split whose training classes a search uses: as set, or the standard, or the easiest."""
    steps = {str(split.step) for split in progression}
    easiest = min(progression, key=lambda split: split.shift)
    default = STANDARD_SPLIT if STANDARD_SPLIT in steps else str(easiest.step)
    split = progression.at(default if settings.split is None else settings.split)
    if not split.validation:
        problem = f"search: split {split.step} has no validation classes to choose options on"
        remedy = "set splits.validation, or choose another split"
        raise OodmlError(f"{problem}; {remedy}", "search.split", str(split.step))
    return split


def plan_search(
    study: Study, searches: Sequence[MethodSearch], progression: Progression, images: ImageSet
) -> StudyPlan:
    """The plan in `DIR/search`: the trials sampled so far, and the number of pending ones."""
    trials = [trial for one in searches for trial in one.trials]
    variants = [one.variant.with_values(trial.values) for one in searches for trial in one.trials]
    unplanned = tuple(variant.model_copy(update={"seeds": ()}) for variant in variants)
    alone = study.model_copy(update={"variants": unplanned})
    plan = plan_study(alone, progression, images, progression_key(study, images))
    changes: dict[str, Any] = {"name": f"search of {study.name}", "unit": "trials"}
    changes["runs"] = tuple(trial.run for trial in trials)
    changes["pending_trials"] = sum(one.settings.trials for one in searches) - len(trials)
    return plan.model_copy(update=changes)


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
    variants, methods = {one.label: one.with_values({}) for one in study.variants}, {}
    for search in searches:
        label, ranges, best = search.variant.label, search.variant.ranges, search.best(folder)
        variants[label] = search.variant.with_values(best.values)
        methods[label] = {
            "ranges": {name: one.describe() for name, one in ranges.items()},
            "chosen": {name: variants[label].value(name) for name in ranges},
            "trial": best.number,
            "value": best.value,
            "epoch": best.epoch,
            "default": search.trials[0].value,
            "trials": len(search.trials),
            "failed": sum(trial.value is None for trial in search.trials),
        }
    settings = {} if study.search is None else study.search.model_dump()
    sampler = f"TPE of optuna {_import_optuna().__version__}"
    record = settings | {"split": step, "sampler": sampler, "methods": methods}
    changes = {"variants": tuple(variants.values()), "search": None, "chosen": record}
    return study.model_copy(update=changes)


def write_trials(searches: Iterable[MethodSearch], file: Path) -> None:
    """Write all trials so far as CSV, one row per trial; its option values are JSON."""
    rows = [
        vars(t)
        | {"method": one.variant.label, "trial": t.number, "run": t.run.id}
        | {"values": json.dumps(t.values), "failed": t.reason}
        for one in searches
        for t in one.trials
    ]
    table = pd.DataFrame(rows, columns=TRIAL_COLUMNS, dtype=object)
    write_text(file, table.to_csv(index=False, lineterminator="\n"))
