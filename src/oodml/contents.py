"""What is known of image files: a hash of each one's bytes, and whether it can be read.

Decoding everything takes minutes, so what was found is remembered in the cache, and believed as
long as a file's size and times of change stay what they were.
"""

import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.files import cache_folder, content_hash, replacing
from oodml.images import ImageSet

Found = TypeVar("Found")
Say = Callable[[str], object]
Stamps = NDArray[np.int64]
"""[n 3] of each file its size, the time of change that it states, and the one that the system
keeps and nobody can set, in nanoseconds."""

SETTLED = 2.0
"""Seconds after which a file that is changed again is sure to show another time of change."""
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
    hashes, problems = known.hashes.tolist(), known.problems.tolist()
    for row, look in zip(rows, looks(images, rows, lambda image: None), strict=True):
        hashes[row], problems[row] = look.content, look.problem
    return remember(images, stamps, hashes, problems)


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
            content = content_hash(images.path(row).read_bytes())[:32] if images.root else ""
            return Look(content, found=make(images.read(row, at_least)))
        except OSError as error:  # gone, or not to be opened
            return Look(content_hash(""), str(error))
        except OodmlError as error:
            return Look(content, str(error))

    count = os.cpu_count() or 1
    block = 32 * count  # what is made waits in memory until it is asked for
    with ThreadPoolExecutor(count) as pool:
        for start in range(0, len(rows), block):
            yield from pool.map(look, rows[start : start + block].tolist())


def stamps_of(images: ImageSet) -> Stamps:
    """The size and times of change of every file; -1 where there is none."""
    stamps = np.full((len(images), 3), -1, dtype=np.int64)
    for row in range(len(images)):
        try:
            found = os.stat(images.path(row))
        except OSError:
            continue
        stamps[row] = found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return stamps


def remembered(images: ImageSet, stamps: Stamps) -> Contents:
    """What earlier looks found, of the files that are as they were."""
    memory = _memory(images)
    none = np.full(len(images), "")
    if len(memory["ids"]) == 0:
        return Contents(none, none)
    places = np.searchsorted(memory["ids"], images.ids).clip(max=len(memory["ids"]) - 1)
    same = (memory["ids"][places] == images.ids) & (memory["stamps"][places] == stamps).all(axis=1)
    same &= stamps[:, 0] >= 0
    return Contents(
        np.where(same, memory["hashes"][places], none),
        np.where(same, memory["problems"][places], none),
    )


def remember(
    images: ImageSet, stamps: Stamps, hashes: Sequence[str], problems: Sequence[str]
) -> Contents:
    """Keep what was found in files that had these stamps before they were looked at.

    Files changed just now are not kept: changed again at once, they might look the same.
    """
    found = Contents(np.array(hashes, dtype=np.str_), np.array(problems, dtype=np.str_))
    settled = stamps[:, 2] <= (time.time() - SETTLED) * 1e9
    new = {
        "ids": images.ids[settled],
        "stamps": stamps[settled],
        "hashes": found.hashes[settled],
        "problems": found.problems[settled],
    }
    memory = _memory(images)
    other = ~np.isin(memory["ids"], images.ids)
    both = {name: np.concatenate([memory[name][other], new[name]]) for name in new}
    order = np.argsort(both["ids"])
    with replacing(_memory_file(images)) as temporary:
        np.savez(temporary, allow_pickle=False, **{name: both[name][order] for name in both})
    return found


def _memory(images: ImageSet) -> dict[str, NDArray[Any]]:
    """All that is remembered of a folder: ids, sorted, and what belongs to each."""
    names = ("ids", "stamps", "hashes", "problems")
    try:
        path = _memory_file(images)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            found = {name: kept[name] for name in names}
            if found["stamps"].shape[1:] != (3,):
                raise ValueError("kept by an older version")
            return found
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # a torn file of an older version
        nothing = np.zeros(0, dtype="U1")
        return dict.fromkeys(names, nothing) | {"stamps": np.zeros((0, 3), dtype=np.int64)}


def _memory_file(images: ImageSet) -> Path:
    assert images.root is not None
    return cache_folder() / "contents" / f"{content_hash(str(images.root.resolve()))[:24]}.npz"
