"""A search for options: every method the same number of trials, on validation classes alone.

Trials are the runs of a study of their own in `DIR/search`, so that they are claimed, done, kept
and found again as runs are. They are asked for in rounds of `ROUND` for each method. What a
round asks for follows from the file and the results of the rounds before, not from who did them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.shift.splits import Progression, Split
from oodml.study.folder.store import Store
from oodml.study.folder.table import read_rows
from oodml.study.plan import Run, plan_runs
from oodml.study.prepare import plan_of
from oodml.study.search.sampler import Sampler
from oodml.study.spec.ranges import SearchSettings
from oodml.study.spec.study_file import Study
from oodml.study.spec.variants import Variant

ROUND = 5
"""Trials of a method that are asked for at once; all may be done at the same time."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to. value: of the metric, None if it failed; epoch: the one chosen.

    reason: why there is no value.
    """

    value: float | None = None
    epoch: int | None = None
    seconds: float | None = None
    reason: str = "not done yet"


@dataclass
class Trial:
    """One training of a method with some values of its ranges; the first has none, its defaults."""

    number: int
    values: dict[str, Any]
    run: Run
    outcome: Outcome = Outcome()

    def planned(self) -> dict[str, Any]:
        """Its entry in the plan of `DIR/search`."""
        return {
            "id": self.run.id, "position": 0, "trial": self.number, "values": self.values,
        } | self.run.settings()  # fmt: skip


@dataclass
class MethodSearch:
    """The trials of one method so far."""

    variant: Variant
    settings: SearchSettings
    make: Callable[[Variant], Run]
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sampler = Sampler(self.variant, self.settings)

    @property
    def through(self) -> bool:
        return len(self.trials) >= self.settings.trials

    def ask(self) -> list[Trial]:
        """The trials of the next round."""
        count = min(ROUND, self.settings.trials - len(self.trials))
        asked = [self._trial(len(self.trials) + index) for index in range(count)]
        self.trials += asked
        return asked

    def tell(self, asked: Sequence[Trial], store: Store) -> None:
        """Read what a round came to, in the order in which it was asked for."""
        for trial in asked:
            trial.outcome = outcome(trial, store, self.settings.metric)
            self.sampler.tell(trial.number, trial.outcome.value)

    def best(self, folder: Path) -> Trial:
        """The trial with the highest value, of several the first; an error if all failed."""
        told = [(t.outcome.value, -t.number) for t in self.trials if t.outcome.value is not None]
        if not told:
            raise OodmlError(
                f"{folder}: all {len(self.trials)} trials of {self.variant.label} failed; the first: "
                f"{self.trials[0].outcome.reason}. Tracebacks lie in failed/; do them again with "
                "--retry"
            )
        return self.trials[-max(told)[1]]

    def _trial(self, number: int) -> Trial:
        values = self.sampler.ask(number)
        return Trial(number, values, self.make(self.variant.with_values(values)))


def method_searches(study: Study, progression: Progression, images: ImageSet) -> list[MethodSearch]:
    """The searches of a study's methods, one for each that has a range."""
    settings = study.search
    if settings is None:
        return []
    seen = replace(progression, splits=(blind(searched_split(progression, settings)),))

    def make(variant: Variant) -> Run:
        train = variant.train.model_copy(update={"refit": False, "keep_epochs": False})
        lone = variant.model_copy(update={"train": train, "seeds": (settings.seed,)})
        alone = study.model_copy(update={"variants": (lone,), "shots": ()})
        return plan_runs(alone, seen, images.name, images.fingerprint)[0]

    return [MethodSearch(variant, settings, make) for variant in study.variants if variant.ranges]


def rounds(searches: Sequence[MethodSearch]) -> Iterator[list[tuple[MethodSearch, list[Trial]]]]:
    """Round after round of trials to do; each must be told before the next is asked for."""
    while open_ones := [one for one in searches if not one.through]:
        yield [(one, one.ask()) for one in open_ones]


def searched_split(progression: Progression, settings: SearchSettings) -> Split:
    """The split whose train classes a search uses: the one named, else step 0, else the easiest."""
    steps = {str(split.step) for split in progression}
    easiest = min(progression, key=lambda split: split.shift)
    step = settings.split or ("0" if "0" in steps else str(easiest.step))
    split = progression.at(step)
    if not split.validation:
        raise OodmlError(f"search: split {step} has no validation classes to choose options on; "
                         "set splits.validation, or give another split")  # fmt: skip
    return split


def blind(split: Split) -> Split:
    """The split as a trial sees it: without its test classes."""
    return replace(split, test=(), episodes={})


def plan_of_search(
    study: Study,
    searches: Sequence[MethodSearch],
    progression: Progression,
    images: ImageSet,
    key: str,
) -> dict[str, Any]:
    """What `DIR/search/plan.json` holds: the trials asked for so far; `later` counts the others."""
    trials = [trial for one in searches for trial in one.trials]
    variants = [one.variant.with_values(trial.values) for one in searches for trial in one.trials]
    tried = [variant.model_copy(update={"seeds": ()}) for variant in variants]
    plan = plan_of(study.model_copy(update={"variants": tuple(tried)}), progression, images, key)
    return plan | {
        "name": f"search of {study.name}",
        "unit": "trials",
        "runs": [trial.planned() for trial in trials],
        "later": sum(one.settings.trials for one in searches) - len(trials),
    }


def outcome(trial: Trial, store: Store, metric: str) -> Outcome:
    """What a settled trial came to, read from its folder."""
    folder = store.runs / trial.run.id
    if not folder.exists():
        text = store.failure(trial.run.id).read_text(encoding="utf-8", errors="replace")
        return Outcome(reason=(text.strip().splitlines() or ["unknown"])[-1])
    rows = read_rows(folder / "rows.parquet")
    found = rows[rows["stage"] == "validation"].set_index("metric")["value"]
    missing = [name for name in metric.split("+") if name not in found]
    if missing:
        raise OodmlError(f"{folder}: no {missing[0]} on the validation classes; a search needs at "
                         "least one epoch, and validation classes with two images")  # fmt: skip
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    value = float(sum(found[name] for name in metric.split("+")))
    return Outcome(value, int(found.get("epoch", 0)), float(record["seconds"]), reason="")
