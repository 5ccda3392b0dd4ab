"""Helpers to read the published layouts of datasets."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oodml.arrays import Names
from oodml.datasets.folder import image_paths
from oodml.errors import OodmlError, error_at, unknown
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
    paths, skipped, empty = image_paths(root)
    if loose := [path for path in paths if len(path.parts) < 2]:
        path = root / loose[0]
        raise OodmlError(f"{name}: {path} is not in a class folder", location=str(path))
    ids, classes = np.array([(str(path), path.parts[-2]) for path in paths]).T
    return ImageSet(name, ids, classes, root=root, skipped=skipped, empty_folders=empty)


def read_rows(path: Path, header: Sequence[str], skip: int = 0) -> list[list[str]]:
    """The rows of a whitespace-separated list, after `skip` lines and the header."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise error_at(path, f"not a readable list: {error}") from error
    first = lines[skip].split() if len(lines) > skip else []
    if first != list(header):
        problem = f"expected the header {' '.join(header)!r}, given {' '.join(first)!r}"
        raise OodmlError(f"{path}: line {skip + 1}: {problem}", f"{path}:{skip + 1}", first, header)
    rows = [line.split() for line in lines[skip + 1 :] if line.strip()]
    for number, line in enumerate(lines[skip + 1 :], skip + 2):
        if line.strip() and len(line.split()) != len(header):
            problem = f"{path}: line {number}: expected {len(header)} fields, given {line!r}"
            raise OodmlError(problem, f"{path}:{number}", line)
    if not rows:
        raise error_at(path, "lists no images")
    return rows


def listed_images(path: Path, name: str, root: Path, entries: Sequence[Sequence[str]]) -> ImageSet:
    """The images of a list, sorted by path."""
    ids, classes, superclasses, parts = np.array(sorted(map(tuple, entries))).T
    require_files(path, root, ids)
    return ImageSet(name, ids, classes, superclasses, root=root, partition=parts)


def require_files(list_path: Path, root: Path, paths: Names) -> None:
    """Raise an error unless all paths that a list names, relative to `root`, exist."""
    missing = [path for path in paths.tolist() if not (root / native_name(path)).exists()]
    if missing:
        forms = [unicodedata.normalize(form, missing[0]) for form in ("NFC", "NFD")]
        count = f"{len(missing)} of {len(paths)} listed images are missing"
        problem = f"{missing[0]!r} does not exist in {root} ({count})"
        if any((root / native_name(form)).exists() for form in forms):
            problem += (
                ". The folder has this name in another Unicode normalization (NFC or NFD); write "
                "it in the list as in the folder"
            )
        raise error_at(list_path, problem, missing[0])


def check_choice(dataset: str, option: str, names: Sequence[str], known: list[str]) -> None:
    """Refuse an option such as `groups` unless it lists one or more of the known names."""
    if isinstance(names, str) or not names:
        expected = f"expected a list of one or more of {', '.join(known)}"
        raise OodmlError(f"{dataset}: {option}: {expected}; given {names!r}", option, names, known)
    for name in names:
        if name not in known:
            raise unknown(option.removesuffix("s"), name, known, dataset)
