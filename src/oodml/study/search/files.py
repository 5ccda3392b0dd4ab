"""The files that a search writes: a table of its trials, and a study file with chosen options."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from oodml.files import write_text
from oodml.study.search.trials import MethodSearch
from oodml.study.spec.study_file import Study
from oodml.study.spec.tables import Table
from oodml.study.spec.variants import PARTS, Variant

TRIAL_COLUMNS = ("method", "trial", "run", "values", "value", "epoch", "seconds", "failed")
NOT_SHARED = ("image_size",)
"""Keys of [model] that [splits] would inherit; every method sets them itself."""


def write_trials(searches: Iterable[MethodSearch], file: Path) -> None:
    """Write all trials so far as CSV, one row per trial; its option values are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TRIAL_COLUMNS)
    for search in searches:
        for trial in search.trials:
            outcome = trial.outcome
            values = json.dumps(trial.values)
            row = (search.variant.label, trial.number, trial.run.id, values)
            writer.writerow((*row, outcome.value, outcome.epoch, outcome.seconds, outcome.reason))
    write_text(file, text.getvalue())


def write_chosen(study: Study, file: Path) -> None:
    """Write a study file with all settings of a study, including the chosen options."""
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
    """The items that all tables share."""
    first = tables[0] if tables else {}
    return {k: v for k, v in first.items() if all(k in t and t[k] == v for t in tables)}
