"""Reading a study folder for its report. What is missing becomes a note, not an error."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from oodml.analysis.diagnostics import is_control, without_controls
from oodml.analysis.formatting import format_list
from oodml.catalog import make_importable
from oodml.errors import OodmlError, error_at
from oodml.images.image_set import ImageSet, VectorImages
from oodml.progress import count_noun
from oodml.results.plan import StudyPlan, read_plan
from oodml.results.schema import Stage, on_progression, read_results
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet

T = TypeVar("T")


@dataclass(frozen=True)
class StudyFolder:
    """The contents of a study folder; what is missing is None or empty."""

    path: Path
    table: pd.DataFrame  # the results on the progression
    data: str
    controls: pd.DataFrame | None = None  # the same with size-matched controls
    further: pd.DataFrame | None = None  # the results on further datasets
    settings: str = ""  # the text of `study.toml`
    plan: StudyPlan = field(default_factory=StudyPlan)
    progression: Progression | None = None
    features: VectorSet | None = None  # what shift is measured on
    images: ImageSet | None = None
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # `run.json` by id
    failed: Mapping[str, str] = field(default_factory=dict)  # the error of each failed run, by id
    notes: tuple[str, ...] = ()  # sentences about what is missing

    def vectors(self, run: str) -> VectorSet | None:
        """The test embeddings of a run, or None if the run did not save them."""
        path = self.path / "runs" / run / "vectors.npz"
        return VectorSet.load(path) if path.exists() else None

    def first_vectors(self, split: str | None = None) -> Iterator[tuple[str, str, VectorSet]]:
        """The split, the method, and the test embeddings of each method's first seed."""
        rows = self.table[self.table["stage"] == Stage.ZERO_SHOT].sort_values(["method", "seed"])
        rows = rows if split is None else rows[rows["split"] == split]
        for row in rows.drop_duplicates(["method", "split"]).to_dict("records"):
            vectors = self.vectors(str(row["run"]))
            if vectors is not None:
                yield str(row["split"]), str(row["method"]), vectors

    def failures(self) -> dict[str, list[str]]:
        """The failed runs as text, grouped by their error."""
        from oodml.study.folder.status import group_failures

        names = {run.id: run.description for run in self.plan.runs}
        failed = self.failed.items()
        return group_failures((run, reason, names.get(run, run)) for run, reason in failed)


def read_folder(
    directory: str | Path, images: ImageSet | None = None, trust_code: bool = False
) -> StudyFolder:
    """Read a study folder with zero-shot results.

    `images` replaces the dataset that `plan.json` names. Only with `trust_code`, a dataset that it
    names by an import path is opened: it can run any code.
    """
    from oodml.share.pack import PACKED_IMAGES, read_packed_images
    from oodml.study.folder.status import failure_reason

    path = Path(directory)
    if not path.is_dir():
        raise error_at(path, "no such folder; give the folder of a study")
    file = path / "results.parquet"
    everything = read_results(file)
    table = on_progression(everything)
    further = everything[everything["stage"] == Stage.TEST_DATA]
    if not (table["stage"] == Stage.ZERO_SHOT).any():
        raise error_at(file, "no zero-shot results yet; run the study")
    data, *others = sorted(table["data"].unique())
    if others:
        names = ", ".join((data, *others))
        raise error_at(file, f"results of several datasets ({names}); a report describes one", data)
    notes: list[str] = []
    plan = _read(path / "plan.json", read_plan, notes) or StudyPlan()
    _note_plan(plan, table, notes)
    if trust_code:
        make_importable(*plan.import_from, Path.cwd())
    images = _open_images(plan, notes, trust_code) if images is None else images
    progression = _read_progression(path / "splits.json", set(table["split"]), notes)
    missing = "features.npz is missing, so the map of classes cannot be drawn."
    problem = "The map of classes cannot be drawn: "
    features = _read(path / "features.npz", VectorSet.load, notes, problem, missing)
    if images is None:  # those of a pack, which name and classify what cannot be opened here
        images = _read(path / PACKED_IMAGES, lambda file: read_packed_images(file, data), notes)
    settings, failed = path / "study.toml", sorted((path / "failed").glob("*.txt"))
    return StudyFolder(
        path=path, table=without_controls(table), data=data, plan=plan, progression=progression,
        controls=table if table["split"].map(is_control).any() else None,
        further=None if further.empty else further, features=features, images=images,
        settings=settings.read_text("utf-8", "replace") if settings.exists() else "",
        runs=_read_runs(path / "runs", notes), notes=tuple(notes),
        failed={one.stem: failure_reason(one) for one in failed},
    )  # fmt: skip


def _read(
    path: Path, reader: Callable[[Path], T], notes: list[str], problem: str = "", missing: str = ""
) -> T | None:
    """The contents of a file; if it is damaged or missing, None and a note."""
    if not path.exists():
        notes += [missing] if missing else []
        return None
    try:
        return reader(path)
    except OodmlError as error:
        notes.append(f"{problem}{error}")
        return None


def _note_plan(plan: StudyPlan, table: pd.DataFrame, notes: list[str]) -> None:
    from oodml.study.folder.status import MAX_LISTED, describe_input_size

    done = set(table["run"])
    missing = sum(run.id not in done for run in plan.runs)
    if without := sorted({run.label for run in plan.runs} - set(table["method"])):
        notes.append(f"{format_list(without)} {'has' if len(without) == 1 else 'have'} no results.")
    if missing:
        verb = "has" if missing == 1 else "have"
        notes.append(f"{missing} of {len(plan.runs)} planned runs {verb} no result yet.")
    if plan.left_out:
        more = ", …" if len(plan.left_out) > MAX_LISTED else ""
        ids = ", ".join(plan.left_out[:MAX_LISTED]) + more
        notes.append(f"{count_noun(len(plan.left_out), 'corrupt image')} left out ({ids}).")
    if external := sorted({run.label for run in plan.runs if run.external}):
        listed = f"External, from vectors of models trained elsewhere: {format_list(external)}"
        notes.append(f"{listed}. Their few-shot results adapt one layer on these vectors.")
    if note := describe_input_size(plan.runs):
        notes.append(f"{note[0].upper()}{note[1:]}.")


def _read_progression(path: Path, done: set[str], notes: list[str]) -> Progression | None:
    from oodml.shift.files import read_splits

    missing = "splits.json is missing, so the progression cannot be drawn."
    problem = "The progression cannot be drawn: "
    progression = _read(path, read_splits, notes, problem, missing)
    if progression is None:
        return None
    named = ((str(split.step), split) for split in progression)
    splits = tuple(split for name, split in named if name in done and not is_control(name))
    by_class = {n for one in splits for n, e in one.episodes.items() if e and e[0].class_wise}
    if by_class:
        shots = format_list([str(n) for n in sorted(by_class)])
        notes.append(
            f"Few-shot episodes with {shots} shots are by class, as most test classes have too few "
            "images: the support is all images of some test classes, the queries are the others."
        )
    if not splits:
        notes.append("splits.json contains none of the splits that have results.")
        return None
    return replace(progression, splits=splits)


def _open_images(plan: StudyPlan, notes: list[str], trust_code: bool) -> ImageSet | None:
    from oodml.datasets import is_import_path, open_images

    name = plan.source.get("name")
    if not isinstance(name, str):
        notes.append("plan.json does not name the images, so only their ids are shown.")
        return None
    if is_import_path(name) and not trust_code:
        reason = "It was not imported, so only image ids are shown."
        advice = "If you trust this folder, pass --trust-code (trust_code=True)."
        notes.append(f"User code opens the images ({name}). {reason} {advice}")
        return None
    try:
        images = open_images(name, **plan.source.get("options", {}))
    except (OodmlError, OSError, TypeError) as error:
        notes.append(f"The images could not be opened, so only their ids are shown: {error}")
        return None
    if isinstance(images, VectorImages):
        notes.append("The data are vectors without pixels, so only ids are shown.")
        return None
    return images


def _read_runs(path: Path, notes: list[str]) -> dict[str, Mapping[str, Any]]:
    runs: dict[str, Mapping[str, Any]] = {}
    for file in sorted(path.glob("*/run.json")):
        try:
            runs[file.parent.name] = {**json.loads(file.read_text("utf-8"))}
        except (OSError, ValueError, TypeError):
            notes.append(f"{file}: damaged; its settings and cost are not shown.")
    return runs
