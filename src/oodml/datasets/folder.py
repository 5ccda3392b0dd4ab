"""A folder of images: `root/class/image` or `root/superclass/class/image`."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def dataset(root: str | Path, name: str | None = None) -> ImageSet:
    """Read a folder of images, sorted by path.

    Links are followed; hidden files and folders are skipped. With superclasses, a class is named
    "superclass/class", so classes of the same name in two superclasses stay distinct.

    Args:
        root: the folder.
        name: the name of the data set in results; by default the folder's name.

    Raises:
        OodmlError: if there are no images, images at different depths, or only one class.
    """
    root = Path(root).expanduser()
    paths = image_paths(root)
    depth = _depth(root, paths)
    classes = [str(path.parent) for path in paths]
    if len(set(classes)) == 1:
        raise OodmlError(
            f"{root}: all images are in one class, {classes[0]!r}; at least two are required",
            location=str(root),
            given=classes[0],
        )
    return ImageSet(
        name or root.resolve().name,
        np.array([str(path) for path in paths]),
        np.array(classes),
        np.array([path.parts[0] for path in paths]) if depth == 3 else None,
        root=root,
    )


def image_paths(root: Path) -> list[PurePosixPath]:
    """The images in a folder, as sorted paths relative to it."""
    if not root.is_dir():
        raise OodmlError(f"{root}: no such folder", location=str(root))
    paths = sorted(PurePosixPath(path) for path in _walk(root, "", (os.path.realpath(root),)))
    if not paths:
        raise OodmlError(
            f"{root}: contains no images ({', '.join(SUFFIXES)})",
            location=str(root),
            allowed=SUFFIXES,
        )
    for path in paths:
        if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
            full = repr(str(root / path))
            raise OodmlError(f"{full}: the file name is not valid UTF-8", location=full)
    return paths


def _walk(root: Path, below: str, parents: tuple[str, ...]) -> Iterator[str]:
    """The images in `root/below`; skips links to one of `parents`, the real folders above."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{below}{entry.name}"
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in parents:
                    yield from _walk(root, f"{path}/", (*parents, real))
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield path


def _depth(root: Path, paths: list[PurePosixPath]) -> int:
    """The number of parts of every path: 2 without, 3 with superclasses."""
    example = {len(path.parts): path for path in reversed(paths)}
    for depth, path in sorted(example.items()):
        if depth not in (2, 3):
            raise OodmlError(
                f"{root}: {str(path)!r} is at the wrong depth; "
                "allowed: class/image or superclass/class/image",
                location=str(root),
                given=str(path),
                allowed=("class/image", "superclass/class/image"),
            )
    if len(example) > 1:
        raise OodmlError(
            f"{root}: images at different depths: {str(example[2])!r} (class/image) and "
            f"{str(example[3])!r} (superclass/class/image)",
            location=str(root),
            given=str(example[2]),
        )
    return next(iter(example))
