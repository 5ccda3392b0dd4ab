"""A first study file for a user's own images, with a comment on every line."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from oodml.datasets import open_images
from oodml.errors import error_at, unknown
from oodml.images.image_set import ImageSet, VectorImages
from oodml.study.spec.shipped import PREFIX, shipped_studies

SHOTS = (2, 5)
QUERIES = 2
"""Images per class that must remain for retrieval after the support images are taken."""
MIN_CLASSES = 8

TEXT = Path(__file__).with_name("first_study.toml").read_text("utf-8")


def shipped_text(name: str, root: Path | None, file: Path) -> str:
    studies = shipped_studies()
    name = name.removeprefix(PREFIX)
    if name not in studies:
        raise unknown("shipped study", name, studies)
    if root is None:
        return studies[name]
    path = json.dumps(_data_value(file, str(root)), ensure_ascii=False)
    return re.sub(r'root = "[^"]*"', lambda _: f"root = {path}", studies[name], count=1)


def study_text(data: str, file: Path, root: Path | None = None) -> str:
    """The text of a first study file; shots and batch size fit the data."""
    options: dict[str, Any] = {} if root is None else {"root": root}
    images = open_images(data, **options)
    check_class_count(images)
    counts = np.bincount(images.labels)
    shots = [n for n in SHOTS if n + QUERIES <= counts.min()]
    smallest = f"              # the smallest class has {counts.min()} images"
    text = TEXT
    if isinstance(images, VectorImages):  # there is no network
        text = "".join(s for s in TEXT.splitlines(True) if not s.startswith(("backbone", "mode")))
    entry = json.dumps(_data_value(file, data), ensure_ascii=False)
    if root is not None:
        entry = f"{{name = {entry}, root = {json.dumps(_data_value(file, str(root)))}}}"
    return text.format(
        name=" ".join(images.name.split()),
        images=len(images),
        classes=images.describe_classes(),
        file=file.name,
        data=entry,
        shots=shots,
        shots_comment="         # labeled images per new class" if shots else smallest,
        batch_size=min(112, 2 * (len(counts) // 4)),
    )


def check_class_count(images: ImageSet) -> None:
    """Raise OodmlError if there are too few classes for a study."""
    if (count := len(images.class_names)) < MIN_CLASSES:
        problem = f"{count} classes; a study needs at least {MIN_CLASSES} to train and to test on"
        raise error_at(images.name, problem, count)


def _data_value(file: Path, data: str) -> str:
    """How the study file names the data: a path from its own folder, or a dataset's name."""
    path = Path(data).expanduser()
    if not path.exists():
        return data
    return Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix()
