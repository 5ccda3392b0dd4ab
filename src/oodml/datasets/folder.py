"""Any folder of images: `root/class/image` or `root/superclass/class/image`."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def dataset(root: str | Path, name: str | None = None) -> ImageSet:
    """The images of a folder, sorted by path; links are followed, hidden names left out.

    root: the folder. name: of the set in results; by default the folder's.
    With superclasses a class is named "superclass/class", so that two superclasses may hold
    classes of the same name. Raises `OodmlError` for images at different depths, for none, and
    for one class only.
    """
    root = Path(root).expanduser()
    paths = image_paths(root)
    depth = _depth(root, paths)
    classes = [str(path.parent) for path in paths]
    if len(set(classes)) == 1:
        raise OodmlError(f"{root}: all images are of one class, {classes[0]!r}; give two or more")
    return ImageSet(
        name or root.resolve().name,
        np.array([str(path) for path in paths]),
        np.array(classes),
        np.array([path.parts[0] for path in paths]) if depth == 3 else None,
        root=root,
    )


def image_paths(root: Path) -> list[PurePosixPath]:
    """The images below a folder, relative to it, in an order that no file system decides."""
    if not root.is_dir():
        raise OodmlError(f"{root}: no such folder")
    paths = sorted(PurePosixPath(found) for found in _walk(root, "", (os.path.realpath(root),)))
    if not paths:
        raise OodmlError(f"{root}: holds no images ({', '.join(SUFFIXES)})")
    for path in paths:
        if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
            raise OodmlError(f"{str(root / path)!r}: the file's name is not valid UTF-8")
    return paths


def _walk(root: Path, below: str, chain: tuple[str, ...]) -> Iterator[str]:
    """Images under `root/below`; links to one of `chain`, the real folders above, are not taken."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{below}{entry.name}"
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in chain:
                    yield from _walk(root, f"{path}/", (*chain, real))
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield path


def _depth(root: Path, paths: list[PurePosixPath]) -> int:
    """How many names each path has: 2 without, 3 with superclasses."""
    example = {len(path.parts): path for path in reversed(paths)}
    for depth, path in sorted(example.items()):
        if depth not in (2, 3):
            raise OodmlError(
                f"{root}: {str(path)!r} lies at the wrong depth; "
                "allowed: class/image or superclass/class/image"
            )
    if len(example) > 1:
        raise OodmlError(
            f"{root}: {str(example[2])!r} reads as class/image but {str(example[3])!r} as "
            "superclass/class/image; all images must lie at one depth"
        )
    return next(iter(example))
