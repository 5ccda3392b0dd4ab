"""Where the parts of a published data set lie under the folder that the user names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oodml.arrays import Names
from oodml.datasets.folder import image_paths
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet


def first_present(name: str, root: str | Path, candidates: Sequence[str]) -> Path:
    """The first of `candidates`, paths relative to `root`, that exists."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise OodmlError(f"{name}: root {str(root)!r} is not a folder")
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise OodmlError(f"{name}: {root} holds none of {', '.join(candidates)}")


def class_folders(name: str, root: Path) -> ImageSet:
    """Images whose class is the folder they lie in, whatever lies above it."""
    paths = image_paths(root)
    loose = [path for path in paths if len(path.parts) < 2]
    if loose:
        raise OodmlError(f"{name}: {root / loose[0]} lies in no class folder")
    return ImageSet(
        name,
        np.array([str(path) for path in paths]),
        np.array([path.parts[-2] for path in paths]),
        root=root,
    )


def rows(path: Path, header: Sequence[str], skip: int = 0) -> list[list[str]]:
    """The rows of a list separated by white space, after `skip` lines and the header.

    Raises `OodmlError` naming the line if the header or a row is not as published.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OodmlError(f"{path}: not a readable list: {error}") from error
    first = lines[skip].split() if len(lines) > skip else []
    if first != list(header):
        raise OodmlError(
            f"{path}: line {skip + 1} must be the header {' '.join(header)!r}; "
            f"given {' '.join(first)!r}"
        )
    found = []
    for number, line in enumerate(lines[skip + 1 :], skip + 2):
        fields = line.split()
        if fields and len(fields) != len(header):
            raise OodmlError(
                f"{path}: line {number} must have {len(header)} fields; given {line!r}"
            )
        if fields:
            found.append(fields)
    if not found:
        raise OodmlError(f"{path}: lists no images")
    return found


def listed(where: Path, name: str, root: Path, entries: Sequence[Sequence[str]]) -> ImageSet:
    """The images of a list, sorted by path: (path under `root`, class, superclass, part) each."""
    ids, classes, superclasses, parts = np.array(sorted(map(tuple, entries))).T
    present(where, root, ids)
    return ImageSet(name, ids, classes, superclasses, root=root, partition=parts)


def present(where: Path, root: Path, paths: Names) -> None:
    """Raise unless all paths that the file `where` lists, relative to `root`, are there."""
    missing = [path for path in paths.tolist() if not (root / path).exists()]
    if missing:
        raise OodmlError(
            f"{where}: {missing[0]!r} is listed but not under {root} "
            f"({len(missing)} of {len(paths)} are missing)"
        )
