"""Studies that come with the package, and a first study file for a user's own images."""

import json
import os
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from oodml.catalog import names
from oodml.datasets import data_line, describe_gaps, open_images, without_corrupt
from oodml.datasets._fetch import ARCHIVES, MANUAL
from oodml.errors import OodmlError, error_at, unknown
from oodml.images.image_set import ImageSet, VectorImages
from oodml.progress import count_noun
from oodml.study.spec.study_file import Study, parse_study, read_study

PREFIX = "shipped:"
"""Marks the name of a shipped study, so that no path can take its place."""
SHOTS = (2, 5)
QUERIES = 2
"""Images per class that must remain for retrieval after the support images are taken."""
MIN_CLASSES = 8


def shipped_studies() -> dict[str, str]:
    paths = (files("oodml") / "shipped_studies").iterdir()
    texts = {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in paths if ".toml" in p.name}
    return dict(sorted(texts.items()))


def open_study(which: str | Path, data: Path | None = None, splits: Path | None = None) -> Study:
    """Open a study file, or a shipped study: "shipped:NAME", or NAME if no file has this name.

    Relative paths in a shipped study start at the current folder. `splits` is a file to use.
    """
    name = _shipped_name(str(which))
    if name is not None:
        path, text = Path.cwd() / f"{name}.toml", shipped_studies()[name]
    elif data is None and splits is None:
        return read_study(which)
    else:
        path, text = Path(which), read_study(which).text
    tables, comments = tomllib.loads(text), []
    if data is not None:
        if not data.expanduser().exists():
            problem = f"--data {data}: no such folder or table"
            raise OodmlError(problem, location="--data", given=str(data))
        table, root = tables["data"], str(data.expanduser().resolve())
        tables["data"] = table | {"root": root} if isinstance(table, dict) else root
        comments.append(f"# --data {data}\n")
    if splits is not None:
        tables["splits"] = {"file": str(splits.expanduser().resolve())}
        comments.append(f"# --splits {splits}\n")
    return parse_study(tables, path).model_copy(update={"text": "".join(comments) + text})


def check_data(study: Study, which: str) -> None:
    """Check that the published dataset of a study is on this machine."""
    name, root = study.data.name, Path(study.data.options.get("root", study.data.name))
    if name not in (*ARCHIVES, *MANUAL) or root.expanduser().is_dir():
        return
    fetch = f"Run `oodml data fetch {name} --out {root}`, which downloads it or prints how to"
    run = f"then `oodml study run {which} --data {root} --out …`"
    smoke = "Without the data, `--smoke` tests the study on generated images."
    raise OodmlError(
        f"data: {name} is not in {root}. {fetch}; {run}. {smoke}", "data.root", str(root)
    )


def _shipped_name(which: str) -> str | None:
    studies, path = shipped_studies(), Path(which)
    name = which.removeprefix(PREFIX)
    if which.startswith(PREFIX):
        if name not in studies:
            raise unknown("shipped study", name, studies)
        return name
    if path.suffix or path.name != which or path.is_file():
        return None
    if which not in studies and not path.exists():
        error = unknown("study", which, studies)
        problem = f"{error} The path of a study file FILE.toml is allowed as well."
        raise OodmlError(problem, given=which, allowed=error.allowed)
    return which if which in studies else None


def shipped_text(name: str, root: Path | None, file: Path) -> str:
    text = shipped_studies()[_shipped_name(PREFIX + name.removeprefix(PREFIX)) or ""]
    if root is None:
        return text
    path = json.dumps(_data_value(file, str(root)), ensure_ascii=False)
    return re.sub(r'root = "[^"]*"', lambda _: f"root = {path}", text, count=1)


def study_text(data: str, file: Path, root: Path | None = None) -> str:
    """The text of a first study file; shots and batch size fit the data."""
    options: dict[str, Any] = {} if root is None else {"root": root}
    images = without_corrupt(open_images(data, **options))
    check_class_count(images)
    counts = np.bincount(images.labels)
    shots = [n for n in SHOTS if n + QUERIES <= counts.min()]
    least = count_noun(int(counts.min()), "image")
    smallest = f"              # the smallest class has {least}"
    text = Path(__file__).with_name("first_study.toml").read_text("utf-8")
    if isinstance(images, VectorImages):  # there is no network
        text = "".join(s for s in text.splitlines(True) if not s.startswith(("backbone", "mode")))
    name, _, folder = data.partition(":")
    if root is None and folder and name in names("datasets"):
        data, root = name, Path(folder)
    options = {} if root is None else {"root": _data_value(file, str(root))}
    notes = describe_gaps(images)
    if images.left_out:
        options["skip_corrupt"] = True
        corrupt = count_noun(len(images.left_out), "corrupt image")
        notes.append(f"skip_corrupt leaves out {corrupt}, such as {images.left_out[0]}.")
    return text.format(
        name=" ".join(images.name.split()),
        images=len(images),
        classes=images.describe_classes(),
        file=file.name,
        notes="".join(f"# {' '.join(note.split())}\n" for note in notes),
        data=data_line(_data_value(file, data), **options),
        shots=shots,
        shots_comment="         # labeled images per new class" if shots else smallest,
        batch_size=min(112, 2 * (len(counts) // 4)),
    )


def check_class_count(images: ImageSet) -> None:
    if (count := len(images.class_names)) < MIN_CLASSES:
        need = f"a study needs at least {MIN_CLASSES} to train and to test on"
        raise error_at(images.name, f"{count_noun(count, 'class')}; {need}", count)


def _data_value(file: Path, data: str) -> str:
    """How the study file names the data: a path from its own folder, or a dataset's name."""
    path = Path(data).expanduser()
    if not path.exists():
        return data
    return Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix()
