"""A folder of images: `root/class/image` or `root/superclass/class/image`."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from oodml.errors import OodmlError, error_at
from oodml.images.decode import OTHER_IMAGE_SUFFIXES, SUFFIXES
from oodml.images.image_set import ImageSet
from oodml.label_names import refuse_same_names

LEVELS = {2: "class/image", 3: "superclass/class/image"}
REMEDY = "Sort the images into one folder per class, or give a table with columns path and class."


def dataset(
    root: str | Path, name: str | None = None, allow_one_class: bool = False, labeled: bool = True
) -> ImageSet:
    """Read a folder of images, sorted by path; with superclasses, classes are "superclass/class".

    Links are followed; hidden files and folders are ignored. Files that are not images are counted
    in `skipped`; a warning names image formats that cannot be read.

    Args:
        root, name: the folder, and the name of the dataset in results; by default the folder's.
        allow_one_class: accept a folder with a single class, such as a few images of a new one.
        labeled: False accepts images at any depth; the name of a folder is not its class then.

    Raises:
        OodmlError: if there are no images, images at different depths, or only one class.
    """
    root = Path(root).expanduser()
    paths, skipped, empty = image_paths(root)
    depth = _depth(root, paths) if labeled else 0
    classes = [str(path.parent) for path in paths]
    refuse_same_names(classes, str(root), allow_one_class or not labeled)
    title, ids = name or _unicode(root.resolve().name), np.array([str(path) for path in paths])
    superclasses = np.array([path.parts[0] for path in paths]) if depth == 3 else None
    columns = ids, np.array(classes), superclasses
    return ImageSet(title, *columns, root=root, skipped=skipped, empty_folders=empty)


def image_paths(
    root: Path,
) -> tuple[list[PurePosixPath], tuple[tuple[str, int], ...], tuple[str, ...]]:
    """The images in a folder, sorted, relative, and Unicode in every locale; the number of other
    files by suffix; and the folders without images."""
    if not root.is_dir():
        raise error_at(root, "no such folder")
    listed = list(_walk(root, "", (os.path.realpath(root),)))
    files = [one for one in listed if not one[0].endswith("/")]
    paths = sorted(PurePosixPath(_unicode(path)) for path, is_image in files if is_image)
    folders = {_unicode(path[:-1]) for path, _ in listed if path.endswith("/")}
    empty = folders - {str(parent) for path in paths for parent in path.parents}
    others = Counter(
        os.path.splitext(path)[1].lower() or "no suffix" for path, is_image in files if not is_image
    )
    skipped = tuple(sorted(others.items()))
    counts = ", ".join(f"{count} × {suffix}" for suffix, count in skipped)
    if not paths:
        more = f"; other files: {counts}" if skipped else ""
        problem = f"contains no images ({', '.join(SUFFIXES)}){more}"
        raise error_at(root, problem, skipped or None, SUFFIXES)
    if unreadable := ", ".join(sorted(others.keys() & set(OTHER_IMAGE_SUFFIXES))):
        advice = f"Images in {unreadable} cannot be read; convert them to PNG or JPEG."
        logging.getLogger("oodml").warning("%s: files skipped (%s). %s", root, counts, advice)
    return paths, skipped, tuple(sorted(empty))


def _unicode(name: str) -> str:
    """A file name as Unicode; Python decodes names in the encoding of the locale."""
    try:
        return os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise OodmlError(f"{name!r}: the file name is not valid UTF-8", location=name) from error


def _walk(root: Path, below: str, parents: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """The files and folders ("…/") in `root/below`, and whether each is an image; links to one of
    `parents`, the real folders above, are skipped."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{below}{entry.name}"
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in parents:
                    yield f"{path}/", False
                    yield from _walk(root, f"{path}/", (*parents, real))
            else:
                suffix = os.path.splitext(entry.name)[1].lower()
                is_regular = entry.is_file() or entry.is_symlink()  # no pipe, socket, or device
                yield path, suffix in SUFFIXES and is_regular


def _depth(root: Path, paths: list[PurePosixPath]) -> int:
    """The number of parts of every path: 2 without, 3 with superclasses."""
    example = {len(path.parts): str(path) for path in reversed(paths)}
    for depth, path in sorted(example.items()):
        if depth not in LEVELS:
            problem = f"{path!r} is at the wrong depth; allowed: {' or '.join(LEVELS.values())}"
            raise error_at(root, f"{problem}. {REMEDY}", path, LEVELS.values())
    if len(example) > 1:
        both = " and ".join(f"{example[depth]!r} ({level})" for depth, level in LEVELS.items())
        raise error_at(root, f"images at different depths: {both}. {REMEDY}", example[2])
    return next(iter(example))
