"""What is known of image files: a hash of each one's bytes, and whether it can be read.

Decoding everything takes minutes, so what was found is remembered; see `oodml.images.hashes`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.images import hashes
from oodml.images.hashes import UNREAD, Stamps, hash_of, stamps_of
from oodml.images.image_set import ImageSet

Found = TypeVar("Found")
Say = Callable[[str], object]
NAMED = 10
"""Corrupt images that are named one by one."""


def quiet(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Look(Generic[Found]):
    """One decoded file: the hash of its bytes, what was made of it, or why it can't be read."""

    content: str
    problem: str = ""
    found: Found | None = None


@dataclass(frozen=True)
class Contents:
    """What is known of the files of a set of images.

    hashes: [n] of their bytes; "" where a file was not looked at. problems: [n] why a file can't
    be read; "" where it can.
    """

    hashes: Names
    problems: Names

    @property
    def complete(self) -> bool:
        """Whether every file was looked at."""
        return bool((self.hashes != "").all())


def contents(images: ImageSet, say: Say = quiet) -> Contents:
    """The contents of all files; those that aren't known are decoded, by all processors.

    Images in memory have no files: their hashes stay empty, and there are no problems.
    """
    if images.pixels is not None:
        return Contents(*(np.full(len(images), "") for _ in range(2)))
    stamps = stamps_of(images)
    known = remembered(images, stamps)
    rows = np.flatnonzero(known.hashes == "")
    if len(rows) == 0:
        return known
    say(f"looking whether all images of {images.name} can be read: {len(rows)}")
    found, problems = known.hashes.tolist(), known.problems.tolist()
    for row, look in zip(rows, looks(images, rows, lambda image: None), strict=True):
        found[row], problems[row] = look.content, look.problem
    return remember(images, stamps, found, problems)


def refuse_corrupt(images: ImageSet, problems: Sequence[str], advice: str) -> None:
    """Raise an error that names the images with problems, if there are any."""
    found = [problem for problem in problems if problem]
    if found:
        more = [f"… and {len(found) - NAMED} more"] if len(found) > NAMED else []
        one = len(found) == 1
        head = f"{images.name}: {len(found)} image{' is' if one else 's are'} corrupt. {advice}"
        raise OodmlError("\n  ".join([head, *found[:NAMED], *more]))


def looks(
    images: ImageSet,
    rows: NDArray[np.int64],
    make: Callable[[Image.Image], Found],
    at_least: int | None = None,
) -> Iterator[Look[Found]]:
    """Decode files in parallel, and give in order what `make` makes of each.

    at_least: the short side that is enough, see `ImageSet.read`.
    """

    def look(row: int) -> Look[Found]:
        try:
            content = hash_of(images.path(row)) if images.root else ""
            image = images.read(row) if at_least is None else images.read(row, at_least)
            return Look(content, found=make(image))
        except OSError as error:  # gone, or not to be opened
            return Look(UNREAD, str(error))
        except OodmlError as error:
            return Look(content, str(error))

    count = os.cpu_count() or 1
    block = 32 * count  # what is made waits in memory until it is asked for
    with ThreadPoolExecutor(count) as pool:
        for start in range(0, len(rows), block):
            yield from pool.map(look, rows[start : start + block].tolist())


def remembered(images: ImageSet, stamps: Stamps) -> Contents:
    """What earlier looks found, of the files that are as they were."""
    known = hashes.remembered(images, stamps)
    return Contents(np.where(known.decoded, known.hashes, ""), known.problems)


def remember(
    images: ImageSet, stamps: Stamps, contents: Sequence[str], problems: Sequence[str]
) -> Contents:
    """Keep what was found in files that had these stamps before they were looked at.

    contents: the hash of each file's bytes.
    """
    found = Contents(np.array(contents, dtype=np.str_), np.array(problems, dtype=np.str_))
    decoded = found.hashes != ""
    hashes.remember(images, stamps, hashes.Known(found.hashes, decoded, found.problems))
    return found
