"""Helpers to read the published layouts of datasets."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oodml.arrays import Names
from oodml.datasets.folder import image_paths
from oodml.errors import OodmlError, error_at
from oodml.images.image_set import ImageSet, native_name


def first_existing(name: str, root: str | Path, candidates: Sequence[str]) -> Path:
    """The first of `candidates`, paths relative to `root`, that exists."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise OodmlError(f"{name}: root {str(root)!r} is not a folder", location=str(root))
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    problem = f"{name}: {root} contains none of {', '.join(candidates)}"
    raise OodmlError(problem, location=str(root), allowed=candidates)


def class_folders(name: str, root: Path) -> ImageSet:
    """Images whose class is the folder that contains them, at any depth."""
    paths, skipped = image_paths(root)
    loose = [path for path in paths if len(path.parts) < 2]
    if loose:
        path = root / loose[0]
        raise OodmlError(f"{name}: {path} is not in a class folder", location=str(path))
    return ImageSet(
        name,
        np.array([str(path) for path in paths]),
        np.array([path.parts[-2] for path in paths]),
        root=root,
        skipped=skipped,
    )


def read_rows(path: Path, header: Sequence[str], skip: int = 0) -> list[list[str]]:
    """The rows of a whitespace-separated list, after `skip` lines and the header."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise error_at(path, f"not a readable list: {error}") from error
    first = lines[skip].split() if len(lines) > skip else []
    if first != list(header):
        message = (
            f"{path}: line {skip + 1}: expected the header {' '.join(header)!r}, "
            f"given {' '.join(first)!r}"
        )
        raise OodmlError(message, f"{path}:{skip + 1}", first, header)
    rows = []
    for number, line in enumerate(lines[skip + 1 :], skip + 2):
        fields = line.split()
        if fields and len(fields) != len(header):
            problem = f"{path}: line {number}: expected {len(header)} fields, given {line!r}"
            raise OodmlError(problem, f"{path}:{number}", line)
        if fields:
            rows.append(fields)
    if not rows:
        raise error_at(path, "lists no images")
    return rows


def listed_images(
    list_path: Path, name: str, root: Path, entries: Sequence[Sequence[str]]
) -> ImageSet:
    """The images of a list, sorted by path."""
    ids, classes, superclasses, parts = np.array(sorted(map(tuple, entries))).T
    require_files(list_path, root, ids)
    return ImageSet(name, ids, classes, superclasses, root=root, partition=parts)


def require_files(list_path: Path, root: Path, paths: Names) -> None:
    """Raise an error unless all paths that a list names, relative to `root`, exist."""
    missing = [path for path in paths.tolist() if not (root / native_name(path)).exists()]
    if missing:
        forms = [unicodedata.normalize(form, missing[0]) for form in ("NFC", "NFD")]
        same = any((root / native_name(form)).exists() for form in forms)
        hint = (
            ". The folder has this name in another Unicode normalization (NFC or NFD); write it in "
            "the list as in the folder"
        )
        problem = (
            f"{missing[0]!r} does not exist in {root} "
            f"({len(missing)} of {len(paths)} listed images are missing){hint if same else ''}"
        )
        raise error_at(list_path, problem, missing[0])
