"""A study as one file: results, splits, settings, and environment, without local paths."""

import io
import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
from PIL import Image

from oodml import vector_files
from oodml.errors import OodmlError, error_at
from oodml.files import content_hash, creating_folder
from oodml.images.image_set import ImageSet
from oodml.results.plan import StudyPlan, read_plan
from oodml.results.schema import COLUMNS, read_results
from oodml.share.archive import MANIFEST, extract_archive, write_archive
from oodml.shift.files import read_splits, write_splits
from oodml.shift.splits import Progression
from oodml.study.folder.status import failure_reason
from oodml.study.folder.table import write_run_rows
from oodml.vectors import VectorSet

SUFFIX = ".zip"
PACKED_IMAGES = "images.parquet"
_PATH = re.compile(r"(?<![\w.:/\\~-])(?:~\w*|[A-Za-z]:)?[/\\][^\s\"'<>|;,()\[\]{}]*")
_ABSOLUTE = re.compile(r"(?:~\w*[/\\]|[A-Za-z]:[/\\]|/|\\\\|file:)")


def pack_study(
    folder: str | Path,
    out: str | Path,
    *,
    vectors: bool = False,
    images: ImageSet | VectorSet | None = None,
    thumbnails: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Write a study folder to one .zip file, and return its manifest.

    The same study gives the same bytes, without absolute paths, host, or user names. It contains
    neither code nor models; with `vectors`, the features, and the embeddings of test images in
    float16; the ids and classes of `images`; and `thumbnails`, image files by image id.
    """
    source, target = Path(folder), Path(out)
    if target.suffix != SUFFIX:
        problem = f"{target}: suffix {target.suffix!r}; a pack is a .zip file"
        raise OodmlError(problem, "--out", target.suffix, (SUFFIX,))
    table, plan = read_results(source / "results.parquet"), read_plan(source / "plan.json")
    progression = read_splits(source / "splits.json")
    splits = [[str(one.step), sorted(one.train), sorted(one.test)] for one in progression]
    measured = [progression.shift_measure, progression.backbone, splits]
    summary = {
        "name": plan.name, "data": plan.runs[0].data if plan.runs else progression.data,
        "fingerprint": plan.fingerprint, "splits": content_hash(json.dumps(measured)),
        "methods": sorted(table["method"].unique()), "smoke": plan.smoke, "vectors": vectors,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        shutil.copyfile(source / "results.parquet", staged / "results.parquet")
        _stage_settings(source, staged, plan, progression)
        for run in sorted(table["run"].unique()):
            _stage_run(source / "runs" / run, staged / "runs" / run, vectors)
        if vectors and (source / "features.npz").exists():
            _copy_vectors(source / "features.npz", staged / "features.npz", np.float32)
        if images is not None:
            write_packed_images(images, thumbnails or {}, staged / PACKED_IMAGES)
        write_archive(staged, target, summary)
        return dict(json.loads((staged / MANIFEST).read_text("utf-8")))


def open_pack(file: str | Path, out: str | Path) -> dict[str, Any]:
    """Check a pack, extract it to a study folder, and return its manifest. No code is run."""
    pack, target = Path(file), Path(out)
    refuse_existing(target)
    with creating_folder(target) as staged:
        manifest = extract_archive(pack, staged)
        (staged / MANIFEST).unlink()
        table = read_results(staged / "results.parquet")
        for run, rows in table.groupby("run"):  # so that the study can be resumed
            if (folder := staged / "runs" / str(run)).is_dir():
                write_run_rows(rows[[*COLUMNS]].reset_index(drop=True), folder)
    return manifest


def refuse_existing(folder: Path) -> None:
    """Raise OodmlError if a folder that would be created exists and is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise error_at(folder, "exists already; choose another folder with --out")


@contextmanager
def study_folder(path: str | Path) -> Iterator[Path]:
    """A study folder, or a temporary folder with the content of a pack."""
    if Path(path).suffix != SUFFIX:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / Path(path).stem
        open_pack(path, folder)
        yield folder


def _stage_settings(source: Path, staged: Path, plan: StudyPlan, progression: Progression) -> None:
    values = without_paths(plan.model_dump(mode="json", by_alias=True))
    further = {name: _public_source(one) for name, one in plan.test_sources.items()}
    values |= {"import_from": [], "keeping": {}, "test_sources": further}
    values["source"] = _public_source(plan.source)
    (staged / "plan.json").write_text(json.dumps(values, indent=1), "utf-8")
    public = replace(progression, settings=without_paths(progression.settings))
    write_splits(public, staged / "splits.json")
    settings = source / "study.toml"
    if settings.exists():  # without its comments
        with suppress(tomllib.TOMLDecodeError):
            tables = without_paths(tomllib.loads(settings.read_text("utf-8", "replace")))
            (staged / "study.toml").write_text(tomli_w.dumps(tables), "utf-8")
    for file in sorted((source / "failed").glob("*.txt")):
        (staged / "failed").mkdir(exist_ok=True)
        reason = failure_reason(file)
        (staged / "failed" / file.name).write_text(without_paths(reason) + "\n", "utf-8")


def _public_source(source: Mapping[str, Any]) -> dict[str, Any]:
    """Where the images are, without folders: a path says nothing on another machine."""
    options = dict(source.get("options") or {})
    public = {key: value for key, value in options.items() if without_paths(value) == value}
    public.pop("root", None)
    name = source.get("name")
    is_public = isinstance(name, str) and without_paths(name) == name
    return {"name": name, "options": public} if is_public else {"options": public}


def _stage_run(source: Path, staged: Path, vectors: bool) -> None:
    staged.mkdir(parents=True)
    record = source / "run.json"
    if record.exists():
        values = without_paths(json.loads(record.read_text("utf-8")))
        (staged / record.name).write_text(json.dumps(values, indent=1), "utf-8")
    for name in ("history.csv", "confusions.parquet"):
        if (source / name).exists():
            shutil.copyfile(source / name, staged / name)
    if vectors and (source / "vectors.npz").exists():
        _copy_vectors(source / "vectors.npz", staged / "vectors.npz", np.float16)


def _copy_vectors(source: Path, target: Path, dtype: type[np.floating[Any]]) -> None:
    """Copy vectors in a floating-point type, or in their own if a value exceeds its range."""
    columns, origin = vector_files.read_vectors(source)
    vectors = columns["vectors"]
    if np.abs(vectors).max(initial=0) < np.finfo(dtype).max:
        columns["vectors"] = vectors.astype(dtype)
    vector_files.write_vectors(target, columns, without_paths(origin))


def without_paths(value: Any) -> Any:
    """JSON values with the last part of each absolute path, and nothing under the key "host"."""
    if isinstance(value, str):
        return _shorten(value) if _ABSOLUTE.match(value) else _PATH.sub(_shorten, value)
    if isinstance(value, Mapping):
        return {k: "" if k == "host" else without_paths(entry) for k, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(entry) for entry in value]
    return value


def _shorten(path: str | re.Match[str]) -> str:
    """The last part of a path; a bare separator stays."""
    text = path if isinstance(path, str) else path[0]
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] or text[:1]


@dataclass(frozen=True)
class PackedImages(ImageSet):
    """Images of which only thumbnails exist, if anything."""

    thumbnails: Mapping[str, bytes] = field(default_factory=dict)

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        name = str(self.ids[index])
        if name not in self.thumbnails:
            raise OodmlError(f"{name}: the pack does not contain this image", given=name)
        with Image.open(io.BytesIO(self.thumbnails[name]), formats=("WEBP",)) as image:
            return image.convert("RGB")


def write_packed_images(
    images: ImageSet | VectorSet, thumbnails: Mapping[str, bytes], path: Path
) -> None:
    """Write the id, class, superclass, and thumbnail (WebP) of each image to a Parquet file."""
    columns = {"id": images.ids.tolist(), "class": images.classes.tolist()}
    if images.superclasses is not None:
        columns["superclass"] = images.superclasses.tolist()
    columns["thumbnail"] = [thumbnails.get(name) for name in columns["id"]]
    pd.DataFrame(columns).sort_values("id").to_parquet(path, index=False)


def read_packed_images(path: Path, name: str) -> PackedImages:
    try:
        table = pd.read_parquet(path)
        pictures = dict(zip(table["id"], table["thumbnail"], strict=True))
        text = {key: table[key].to_numpy(dtype=np.str_) for key in table if key != "thumbnail"}
        columns = (text["id"], text["class"], text.get("superclass"))
        thumbnails = {key: value for key, value in pictures.items() if value is not None}
        return PackedImages(name, *columns, root=Path(), thumbnails=thumbnails)
    except (OSError, ValueError, KeyError) as error:
        raise OodmlError(f"{path}: damaged ({error})", location=str(path)) from error
