"""The results of a search: the study with the chosen options, and files that state them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from oodml.files import write_text
from oodml.study.folder.store import Store
from oodml.study.search.trials import MethodSearch, rounds, sampler_name
from oodml.study.spec.ranges import SearchSettings
from oodml.study.spec.study_file import Study
from oodml.study.spec.tables import Table
from oodml.study.spec.variants import PARTS, Variant

TRIAL_COLUMNS = ("method", "trial", "run", "values", "value", "epoch", "seconds", "failed")
NOT_SHARED = ("image_size",)
"""Keys of [model] that [splits] would inherit; every method sets them itself."""


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
    values = {label: trial.values for label, trial in best.items()}
    variants = tuple(one.with_values(values.get(one.label, {})) for one in study.variants)
    chosen = {variant.label: variant for variant in variants}
    methods = {}
    for search in searches:
        label, ranges = search.variant.label, search.variant.ranges
        methods[label] = {
            "ranges": {name: one.describe() for name, one in ranges.items()},
            "chosen": {name: chosen[label].value(name) for name in ranges},
            "trial": best[label].number,
            "value": best[label].outcome.value,
            "epoch": best[label].outcome.epoch,
            "default": search.trials[0].outcome.value,
            "trials": len(search.trials),
            "failed": sum(trial.outcome.value is None for trial in search.trials),
        }
    settings = {} if study.search is None else study.search.model_dump()
    record = settings | {"split": step, "sampler": sampler_name(), "methods": methods}
    return study.model_copy(update={"variants": variants, "search": None, "chosen": record})


def write_chosen(study: Study, settings: SearchSettings, step: str, file: Path) -> None:
    """Write a study file with the chosen options; paths are absolute, all keys explicit."""
    comment = f"# Options chosen from {settings.trials} trials of each method with ranges, by "
    comment += f"{settings.metric} on\n# the validation classes of split {step}. "
    comment += "The file trials.csv lists all trials.\n"
    write_text(file, comment + tomli_w.dumps(_study_tables(study)))


def write_trials(searches: Iterable[MethodSearch], file: Path) -> None:
    """Write all trials so far as CSV, one row per trial; its option values are JSON."""
    rows = [
        (one.variant.label, t.number, t.run.id, json.dumps(t.values), *astuple(t.outcome))
        for one in searches
        for t in one.trials
    ]
    table = pd.DataFrame(rows, columns=TRIAL_COLUMNS, dtype=object)
    write_text(file, table.to_csv(index=False, lineterminator="\n"))


def _study_tables(study: Study) -> Table:
    shared: dict[str, Table] = {}
    for part in PARTS:
        tables = [_plain(getattr(variant, part)) for variant in study.variants]
        items = tables[0].items() if tables else ()
        shared[part] = {k: v for k, v in items if all(k in t and t[k] == v for t in tables)}
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
    table = {"method": variant.method, "seeds": list(variant.seeds), "few_shot": variant.few_shot}
    for part in PARTS:
        values = _plain(getattr(variant, part))
        if own := {key: value for key, value in values.items() if key not in shared[part]}:
            table[part] = own
    return table | options


def _plain(settings: Any) -> Table:
    """Settings as TOML values, without those that are None, which is their default."""
    return {k: v for k, v in settings.model_dump(mode="json").items() if v is not None}
