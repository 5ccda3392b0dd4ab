"""What a search leaves to read: a table of its trials, and a study file with what it chose."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oodml.files import write_text
from oodml.study.search.trials import MethodSearch
from oodml.study.spec.study_file import Study
from oodml.study.spec.tables import Table
from oodml.study.spec.variants import PARTS, Variant

COLUMNS = ("method", "trial", "run", "values", "value", "epoch", "seconds", "failed")
OWN = ("image_size",)
"""Keys that the study's [model] hands on to [splits], so each method says them itself."""


def write_trials(searches: Iterable[MethodSearch], file: Path) -> None:
    """All trials so far as CSV, a row each; the values that were tried are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in searches:
        for trial in one.trials:
            found = trial.outcome
            values = json.dumps(trial.values)
            row = (one.variant.label, trial.number, trial.run.id, values)
            writer.writerow((*row, found.value, found.epoch, found.seconds, found.reason))
    write_text(file, text.getvalue())


def write_chosen(study: Study, file: Path) -> None:
    """A study file that says all settings of a study, its chosen options among them."""
    chosen = study.chosen or {}
    head = (
        f"# Options chosen by {chosen.get('trials')} trials of each method with ranges, by "
        f"{chosen.get('metric')} on\n# the validation classes of split {chosen.get('split')}; "
        "trials.csv beside this file has them all.\n"
    )
    write_text(file, head + as_toml(study_tables(study)))


def study_tables(study: Study) -> Table:
    """The tables of a file that is read as this study; paths are absolute, nothing is left out."""
    shared = {
        part: _shared([_plain(getattr(variant, part)) for variant in study.variants])
        for part in PARTS
    }
    shared["model"] = {k: v for k, v in shared["model"].items() if k not in OWN}
    return {
        "name": study.name,
        "data": {"name": study.data.name, **study.data.options},
        "shots": list(study.shots),
        "episodes": study.episodes,
        "splits": _plain(study.splits),
        **shared,
        "methods": {variant.label: _method_table(variant, shared) for variant in study.variants},
    }


def as_toml(tables: Mapping[str, Any], path: Sequence[str] = ()) -> str:
    """TOML of tables whose values are texts, numbers, truths, lists and tables of them."""
    plain = [f"{_key(k)} = {_value(v)}\n" for k, v in tables.items() if not isinstance(v, Mapping)]
    inner = [(k, v) for k, v in tables.items() if isinstance(v, Mapping)]
    head = f"\n[{'.'.join(map(_key, path))}]\n" if path and (plain or not inner) else ""
    return head + "".join(plain) + "".join(as_toml(v, (*path, k)) for k, v in inner)


def _method_table(variant: Variant, shared: Mapping[str, Table]) -> Table:
    options = {name: value for name, value in variant.options.items() if value is not None}
    table = {
        "method": variant.method,
        "seeds": list(variant.seeds),
        "few_shot": variant.few_shot,
        **options,
    }
    for part in PARTS:
        own = _plain(getattr(variant, part))
        differing = {key: value for key, value in own.items() if key not in shared[part]}
        if differing:
            table[part] = differing
    return table


def _plain(settings: Any) -> Table:
    """Settings as TOML can hold them: what is None is left out, for that is its default."""
    return {k: v for k, v in settings.model_dump(mode="json").items() if v is not None}


def _shared(tables: Sequence[Table]) -> Table:
    """The keys on which all tables agree."""
    first = tables[0] if tables else {}
    return {k: v for k, v in first.items() if all(k in t and t[k] == v for t in tables)}


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "a").isalnum() else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)
