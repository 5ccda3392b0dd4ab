"""Reading a study folder for its report: what is missing is noted, not an error."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from oodml.analysis.controls import is_control, without_controls
from oodml.analysis.table import read_table
from oodml.catalog import make_importable
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class StudyFolder:
    """What lies in the folder of a study.

    table: the results on the progression. controls: those with size-matched controls, if there
    are any. progression: its splits that have results; progression, features and images are
    None where they could not be read, and `notes` says why. runs: `run.json` of each run by its
    id. failed: the last line of each failed run's traceback. settings: the text of study.toml.
    search: how options were chosen before anything was run, as plan.json keeps it; or empty.
    shift_weights: the file of weights that the features were made with, where there was one.
    """

    path: Path
    table: pd.DataFrame
    data: str
    controls: pd.DataFrame | None = None
    settings: str = ""
    shift_weights: str | None = None
    search: Mapping[str, Any] = field(default_factory=dict)
    progression: Progression | None = None
    features: VectorSet | None = None
    images: ImageSet | None = None
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def vectors(self, run: str) -> VectorSet | None:
        """The test embeddings of a run, or None where they were not kept."""
        path = self.path / "runs" / run / "vectors.npz"
        return VectorSet.load(path) if path.exists() else None


def read_study(
    directory: str | Path, images: ImageSet | None = None, trust_code: bool = False
) -> StudyFolder:
    """Read a study folder; `images` stands in for the data set that plan.json names.

    trust_code: import a data set that plan.json names by an import path. A folder of someone
    else's runs any code by that, so without it such a data set is not opened, and noted.
    Raises `OodmlError` where there is no results table or it holds no zero-shot results.
    """
    path = Path(directory)
    if not path.is_dir():
        raise OodmlError(f"{path}: no such folder; a study's folder is expected")
    table = read_table(path / "results.parquet")
    if not (table["stage"] == "zero_shot").any():
        raise OodmlError(f"{path}: results.parquet holds no zero-shot result yet; run the study")
    names = sorted(table["data"].unique())
    if len(names) > 1:
        raise OodmlError(f"{path}: results of several data sets ({', '.join(names)}); one a report")
    notes: list[str] = []
    plan = _plan(path / "plan.json")
    _note_unfinished(plan, set(table["run"]), notes)
    _note_inputs(plan, notes)
    if trust_code:
        make_importable(*plan.get("import_from", ()), Path.cwd())
    settings = (path / "study.toml").read_text() if (path / "study.toml").exists() else ""
    return StudyFolder(
        path=path,
        table=without_controls(table),
        controls=table if table["split"].map(is_control).any() else None,
        data=names[0],
        settings=settings,
        shift_weights=plan.get("shift_weights"),
        progression=_progression(path / "splits.json", set(table["split"]), notes),
        features=_features(path / "features.npz", notes),
        images=images if images is not None else _images(plan, notes, trust_code),
        search=plan.get("search") or {},
        runs=_runs(path / "runs"),
        failed=_failed(path / "failed"),
        notes=tuple(notes),
    )


def _plan(path: Path) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def _note_unfinished(plan: Mapping[str, Any], done: set[str], notes: list[str]) -> None:
    planned = plan.get("runs", [])
    missing = sum(run["id"] not in done for run in planned)
    if missing:
        notes.append(f"{missing} of {len(planned)} planned runs have no result yet.")


def _note_inputs(plan: Mapping[str, Any], notes: list[str]) -> None:
    from oodml.study.folder.status import LISTED, input_note

    if left_out := plan.get("left_out", []):
        more = ", …" if len(left_out) > LISTED else ""
        named = ", ".join(left_out[:LISTED]) + more
        notes.append(f"Corrupt images were left out: {len(left_out)} ({named}).")
    if note := input_note(plan.get("runs", [])):
        notes.append(f"{note[0].upper()}{note[1:]}.")


def _progression(path: Path, run: set[str], notes: list[str]) -> Progression | None:
    from oodml.shift.files import read_splits

    if not path.exists():
        notes.append("splits.json is missing, so the progression cannot be drawn.")
        return None
    found = read_splits(path)
    splits = (split for split in found if str(split.step) in run)
    return replace(
        found, splits=tuple(split for split in splits if not is_control(str(split.step)))
    )


def _features(path: Path, notes: list[str]) -> VectorSet | None:
    if not path.exists():
        notes.append("features.npz is missing, so the map of classes cannot be drawn.")
        return None
    return VectorSet.load(path)


def _images(plan: Mapping[str, Any], notes: list[str], trust_code: bool) -> ImageSet | None:
    from oodml.datasets import is_import_path, open_images

    if "source" not in plan:
        notes.append("plan.json is missing, so only the names of images are shown.")
        return None
    source = plan["source"]
    if is_import_path(source["name"]) and not trust_code:
        notes.append(
            f"The images are opened by code of your own, {source['name']}, which is not imported, "
            "so only names are shown: if you trust this folder, say trust_code=True (--trust-code)."
        )
        return None
    try:
        return open_images(source["name"], **source["options"])
    except (OodmlError, OSError) as error:
        notes.append(f"The images could not be opened, so only names are shown: {error}")
        return None


def _runs(path: Path) -> dict[str, dict[str, Any]]:
    found = sorted(path.glob("*/run.json"))
    return {file.parent.name: json.loads(file.read_text("utf-8")) for file in found}


def _failed(path: Path) -> dict[str, str]:
    found = {file.stem: file.read_text("utf-8").strip() for file in sorted(path.glob("*.txt"))}
    return {name: text.splitlines()[-1] if text else "no traceback" for name, text in found.items()}
