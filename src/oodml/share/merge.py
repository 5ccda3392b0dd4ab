"""Join studies on the same splits into one study folder."""

import itertools
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from oodml.errors import error_at
from oodml.files import creating_folder, write_text
from oodml.progress import count_noun
from oodml.results.plan import RunPlan, read_plan, write_plan
from oodml.results.schema import COLUMNS, Stage, baselines_of, read_results, write_results
from oodml.share.pack import refuse_existing, study_folder
from oodml.shift.files import read_splits, write_splits
from oodml.shift.splits import Progression
from oodml.study.folder.table import write_run_rows

SHIFT_TOLERANCE = 1e-4
"""The largest relative difference of shifts that counts as rounding on another machine."""
_NUMBER = ["data", "stage", "shots", "episode", "metric"]
_SETTINGS = {"method", "trains", "options", "model", "train", "adapt", "code"}


class Contradiction(NamedTuple):
    """The number that differs most between two studies' rows of a run; the first is used."""

    run: str
    metric: str
    first: float
    second: float


@dataclass
class Merge:
    """What a merge joins: plan, results, and folder of each run, by id. Several studies contain the
    runs in `equal` and `contradictions`, with the same or other numbers; `renamed` are new names of
    methods whose own name an earlier study uses with other settings."""

    runs: dict[str, RunPlan] = field(default_factory=dict)
    rows: dict[str, pd.DataFrame] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    baselines: set[str] = field(default_factory=set)
    equal: list[str] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)


class _Study:
    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder
        self.plan = read_plan(folder / "plan.json")
        if self.plan.smoke:
            raise error_at(name, "a smoke test, whose numbers are not results")
        self.table = read_results(folder / "results.parquet")
        self.progression = read_splits(folder / "splits.json")


def merge_studies(studies: Sequence[str | Path], out: str | Path) -> Merge:
    """Join studies of the same data and splits, as folders or packs, into one study folder.

    A method whose settings differ from those of an earlier study of the same name gets the name of
    its study as a suffix. Of a run with different numbers, the first study's are used.
    """
    target, merge = Path(out), Merge()
    refuse_existing(target)
    with ExitStack() as stack:
        read = [_Study(stack.enter_context(study_folder(path)), str(path)) for path in studies]
        splits = read[0].progression
        for other in read[1:]:
            splits = _join_splits(read[0], splits, other)
        for study in read:
            _add(merge, study, splits)
        _write(merge, read, splits, target)
    return merge


def split_differences(first: Progression, second: Progression) -> list[str]:
    """What differs between the splits of two progressions, one sentence each."""
    splits, others = ({str(one.step): one for one in part} for part in (first, second))
    only = {"first": splits.keys() - others, "second": others.keys() - splits}
    lists = [f"only the {n} has the splits {', '.join(sorted(s))}" for n, s in only.items() if s]
    for step, one in splits.items():
        other = others.get(step, one)
        for side in ("train", "test", "validation"):
            if changed := set(getattr(one, side)) ^ set(getattr(other, side)):
                count = f"{count_noun(len(changed), 'class')}, such as {min(changed)!r}"
                lists.append(f"the {side} classes of split {step} differ in {count}")
        if abs(one.shift - other.shift) > SHIFT_TOLERANCE * abs(one.shift):
            lists.append(f"the shift of split {step} is {one.shift:g} and {other.shift:g}")
        for shots in one.episodes.keys() & other.episodes:
            if one.episodes[shots] != other.episodes[shots]:
                lists.append(f"the episodes of split {step} with {shots} shots differ")
    return lists


def largest_difference(
    first: pd.DataFrame, second: pd.DataFrame, how: Literal["outer", "inner"] = "outer"
) -> tuple[str, float, float] | None:
    """The metric that differs most between a run's rows, with both values; None if none does.

    A number that only one of them has differs most ("outer") or is ignored ("inner").
    """
    both = first.merge(second, on=_NUMBER, how=how, suffixes=("", "_other"))
    distance = (both["value"] - both["value_other"]).abs().fillna(float("inf"))
    distance[both["value"] == both["value_other"]] = 0.0  # also where both are infinite
    if not len(both) or distance.max() == 0:
        return None
    row = both.iloc[int(distance.to_numpy().argmax())]
    return str(row["metric"]), float(row["value"]), float(row["value_other"])


def _join_splits(first: _Study, joined: Progression, other: _Study) -> Progression:
    lists = split_differences(joined, other.progression)
    ours, theirs = first.plan.fingerprint, other.plan.fingerprint
    if ours != theirs:
        lists.insert(0, f"the images differ (fingerprints {ours} and {theirs})")
    if lists:
        shown = "; ".join(lists[:3]) + (f"; and {len(lists) - 3} more" if lists[3:] else "")
        raise error_at(other.name, f"cannot be merged: {shown}", lists)
    more = [other.progression.at(split.step).episodes for split in joined]
    pairs = zip(joined, more, strict=True)
    splits = (replace(split, episodes={**new, **split.episodes}) for split, new in pairs)
    return replace(joined, splits=tuple(splits))


def _add(merge: Merge, study: _Study, splits: Progression) -> None:
    labels: dict[str, str] = {}  # the name of each method in the merged study
    for run in study.plan.runs:
        if run.label in labels:
            continue
        settings = json.dumps(run.model_dump(mode="json", include=_SETTINGS), sort_keys=True)
        name, suffixes = run.label, itertools.chain([""], (f" {n}" for n in itertools.count(2)))
        while merge.settings.get(name, settings) != settings:
            name = f"{run.label} ({study.plan.name}{next(suffixes)})"
        if name != run.label:
            merge.renamed.append(name)
        labels[run.label], merge.settings[name] = name, settings
    merge.baselines |= {labels.get(name, name) for name in baselines_of(study.table)}
    steps = [str(split.step) for split in splits]
    shift = {str(split.step): float(split.shift) for split in splits}
    for run in study.plan.runs:
        new = {"label": labels[run.label], "shift": shift[run.split]}
        new["position"] = steps.index(run.split)
        merge.runs.setdefault(run.id, run.model_copy(update=new))
    table = study.table[[*COLUMNS]]
    own = table["stage"] != Stage.TEST_DATA  # controls keep their shift as well
    known = table["shift"].where(~own, table["split"].map(shift).fillna(table["shift"]))
    table = table.assign(method=table["method"].replace(labels), shift=known)
    for run_id, rows in table.groupby("run", sort=False):
        name = str(run_id)
        if name not in merge.rows:
            merge.rows[name], merge.folders[name] = rows, study.folder / "runs" / name
        elif (worst := largest_difference(merge.rows[name], rows)) is None:
            merge.equal.append(name)
        else:
            merge.contradictions.append(Contradiction(name, *worst))


def _write(merge: Merge, studies: Sequence[_Study], splits: Progression, target: Path) -> None:
    with creating_folder(target) as staged:
        for run, rows in merge.rows.items():
            if merge.folders[run].is_dir():
                shutil.copytree(merge.folders[run], staged / "runs" / run)
                write_run_rows(rows, staged / "runs" / run)
        write_splits(splits, staged / "splits.json")
        for name in ("features.npz", "images.parquet"):
            if files := [one.folder / name for one in studies if (one.folder / name).exists()]:
                shutil.copyfile(files[0], staged / name)
        files = [study.folder / "study.toml" for study in studies]
        texts = [file.read_text("utf-8", "replace") if file.exists() else "" for file in files]
        for number, study in enumerate(studies[1:], start=1):
            lines = [f"Merged with {study.plan.name}:", *texts[number].splitlines()]
            texts[number] = "".join(f"# {line}\n" for line in lines)
        write_text(staged / "study.toml", "\n".join(texts))
        changes = {"runs": tuple(merge.runs.values()), "search": {}}
        write_plan(studies[0].plan.model_copy(update=changes), staged / "plan.json")
        table = pd.concat(merge.rows.values(), ignore_index=True)
        write_results(table, staged / "results.parquet", merge.baselines)
