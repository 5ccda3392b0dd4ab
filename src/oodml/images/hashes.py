"""The hash of each image file's bytes, remembered in the cache with what else is known of it.

What was found is believed as long as a file's size and times of change stay what they were.
"""

import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.files import cache_folder, content_hash, replacing

Stamps = NDArray[np.int64]
"""[n 3] of each file its size, the time of change that it states, and the one that the system
keeps and nobody can set, in nanoseconds; -1 where there is no file."""

SETTLED = 2.0
"""Seconds after which a file that is changed again is sure to show another time of change."""
UNREAD = content_hash("")
"""The hash of a file that could not be opened."""
BLOCK = 64


@runtime_checkable
class Files(Protocol):
    """Image files under a folder, one an id; `oodml.images.image_set.ImageSet` is it."""

    @property
    def name(self) -> str: ...
    @property
    def ids(self) -> Names: ...
    @property
    def root(self) -> Path | None: ...
    @property
    def reader(self) -> dict[str, str]: ...
    def path(self, index: int) -> Path: ...


@dataclass(frozen=True)
class Known:
    """What is known of files.

    hashes: [n] of their bytes; "" where nothing is known. decoded: [n] whether it was tried.
    problems: [n] why a file can't be decoded; "" where it can, or was not tried.
    """

    hashes: Names
    decoded: NDArray[np.bool_]
    problems: Names


def hashes_of(files: Files) -> Names:
    """[n] the hash of each file's bytes; what isn't known is read, by all processors.

    Raises OodmlError naming a file that can't be read.
    """
    stamps = stamps_of(files)
    known = remembered(files, stamps)
    rows = np.flatnonzero(known.hashes == "")
    if len(rows) == 0:
        return known.hashes
    hashes = known.hashes.tolist()
    blocks = [rows[start : start + BLOCK].tolist() for start in range(0, len(rows), BLOCK)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            found = pool.map(lambda block: [hash_of(files.path(row)) for row in block], blocks)
            for block, some in zip(blocks, found, strict=True):
                for row, content in zip(block, some, strict=True):
                    hashes[row] = content
        except OSError as error:
            raise OodmlError(f"{files.name}: {error}") from error
    new = Known(np.array(hashes, dtype=np.str_), known.decoded, known.problems)
    remember(files, stamps, new)
    return new.hashes


def hash_of(path: Path) -> str:
    """Of a file's bytes."""
    return content_hash(path.read_bytes())[:32]


def stamps_of(files: Files) -> Stamps:
    """The size and times of change of every file."""
    stamps = np.full((len(files.ids), 3), -1, dtype=np.int64)
    for row in range(len(files.ids)):
        try:
            found = os.stat(files.path(row))
        except OSError:
            continue
        stamps[row] = found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return stamps


def remembered(files: Files, stamps: Stamps) -> Known:
    """What earlier looks found, of the files that are as they were."""
    memory = _memory(files)
    none = np.full(len(files.ids), "")
    if len(memory["ids"]) == 0:
        return Known(none, np.zeros(len(none), dtype=bool), none)
    places = np.searchsorted(memory["ids"], files.ids).clip(max=len(memory["ids"]) - 1)
    same = (memory["ids"][places] == files.ids) & (memory["stamps"][places] == stamps).all(axis=1)
    return Known(
        np.where(same, memory["hashes"][places], none),
        same & memory["decoded"][places],
        np.where(same, memory["problems"][places], none),
    )


def remember(files: Files, stamps: Stamps, known: Known) -> None:
    """Keep what was found in files that had these stamps before they were looked at.

    Files changed just now are not kept: changed again at once, they might look the same. Nor is
    anything where the cache can't be written; it is found again then.
    """
    settled = (stamps[:, 0] >= 0) & (stamps[:, 2] <= (time.time() - SETTLED) * 1e9)
    settled &= (known.hashes != "") & (known.hashes != UNREAD)
    new = {
        "ids": files.ids[settled],
        "stamps": stamps[settled],
        "hashes": known.hashes[settled],
        "decoded": known.decoded[settled],
        "problems": known.problems[settled],
    }
    memory = _memory(files)
    other = ~np.isin(memory["ids"], files.ids)
    both = {name: np.concatenate([memory[name][other], new[name]]) for name in new}
    order = np.argsort(both["ids"])
    with suppress(OSError), replacing(memory_file(files)) as temporary:
        np.savez(temporary, allow_pickle=False, **{name: both[name][order] for name in both})


def memory_file(files: Files) -> Path:
    """Where what is known of a folder is kept; what one class can't decode another may."""
    assert files.root is not None
    reader = (part for item in files.reader.items() for part in item)
    key = content_hash(str(files.root.resolve()), *reader)
    return cache_folder() / "contents" / f"{key[:24]}.npz"


def _memory(files: Files) -> dict[str, NDArray[Any]]:
    """All that is remembered of a folder: ids, sorted, and what belongs to each."""
    nothing: dict[str, NDArray[Any]] = {
        "ids": np.zeros(0, dtype="U1"),
        "stamps": np.zeros((0, 3), dtype=np.int64),
        "hashes": np.zeros(0, dtype="U1"),
        "decoded": np.zeros(0, dtype=bool),
        "problems": np.zeros(0, dtype="U1"),
    }
    try:
        with memory_file(files).open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            return {name: kept[name] for name in nothing}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # a torn file of an older version
        return nothing
