"""Fingerprints of image sets, and a cached table of what is known about each image file.

A record of the table is valid while the file's size and modification times do not change.
"""

import os
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.files import cache_folder, content_hash, log_cache_failure, replacing
from oodml.images.decode import DECODED_TRAITS, require_regular_file, traits_of
from oodml.images.image_set import ImageSet
from oodml.progress import count_noun, track
from oodml.user_code import class_fingerprints

Log = Callable[[str], object]
FileTimes = NDArray[np.int64]
"""[n 3] size, modification time, and change time (ns, set by the system only); -1 if missing."""

SETTLE_SECONDS = 2.0
"""A file may change again without a new time stamp within this many seconds of a change."""
MISSING = content_hash("")
"""The hash of a file that cannot be opened."""
MAX_NAMED = 10
"""The number of corrupt images that an error names."""
RECORDS_VERSION = "2"
"""Increase it when the same file has other traits."""


def no_log(message: str) -> None:
    """Discard the message."""


@dataclass(frozen=True)
class FileRecords:
    """What is known about each of n image files: the hash of its bytes ("" if unknown), its traits
    of `oodml.images.decode.TRAITS` separated by spaces, whether decoding was tried, and why it
    failed ("" if it did not)."""

    hashes: Names
    traits: Names
    decoded: NDArray[np.bool_]
    problems: Names

    @classmethod
    def empty(cls, n: int) -> "FileRecords":
        return cls(np.full(n, ""), np.full(n, ""), np.zeros(n, dtype=bool), np.full(n, ""))

    def contents(self, background: str) -> Names:
        """[n] what determines the decoded pixels: the hash and how the file is decoded."""
        contents = []
        for name, traits in zip(self.hashes.tolist(), self.traits.tolist(), strict=True):
            decoding = [trait for trait in traits.split() if trait in DECODED_TRAITS]
            contents.append(" ".join([name, *decoding, *[background] * ("alpha" in decoding)]))
        return np.array(contents, dtype=np.str_)


class DecodedFile(NamedTuple):
    """The hash and traits of a file, and the transformed image or the problem of decoding it."""

    hash: str
    traits: str = ""
    problem: str = ""
    value: Any = None


def fingerprint(images: ImageSet) -> str:
    """Hash of the ids, classes, and contents of a set of images; their order does not matter.

    The contents are the pixels in memory, or the bytes of files and how they are decoded: the
    background counts only if an image is transparent. Only changed files are read.
    """
    cache = vars(images)  # not a field: copies made by `select` do not inherit it
    if "_fingerprint" in cache:
        return str(cache["_fingerprint"])
    order = np.argsort(images.ids)
    ids, classes = images.ids[order].tolist(), images.classes[order].tolist()
    names = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t"})
    pairs = zip(ids, classes, strict=True)
    rows = "\n".join("\t".join((a.translate(names), b.translate(names))) for a, b in pairs)
    if images.pixels is not None:
        pixels = images.pixels[order]
        parts = pixels if pixels.dtype == object else [np.ascontiguousarray(pixels)]
        data = [one if isinstance(one, bytes) else np.asarray(one).tobytes() for one in parts]
        contents: bytes | str = data[0] if len(data) == 1 else content_hash(*data)
    else:
        records = file_records(images)
        cache["_transparent"] = any("alpha" in traits.split() for traits in records.traits.tolist())
        contents = "\n".join(records.contents(images.background)[order].tolist())
    cache["_fingerprint"] = content_hash(rows, contents)[:16]
    return str(cache["_fingerprint"])


def decoding_settings(images: ImageSet) -> dict[str, str]:
    """The settings that the decoded pixels depend on: the background, if images are transparent."""
    fingerprint(images)
    return {"background": images.background} if vars(images).get("_transparent") else {}


def reader_fingerprints(images: ImageSet) -> dict[str, str]:
    """Fingerprints of the code of a user's subclass, which may decode files differently."""
    kind = type(images)
    return {} if kind.__module__.startswith("oodml.") else class_fingerprints(kind)


def file_records(images: ImageSet) -> FileRecords:
    """The records of all files; files without a valid record are read in parallel."""
    times = file_times(images)
    records = cached_records(images, times)
    rows = np.flatnonzero(records.hashes == "").tolist()
    if not rows:
        return records
    hashes, traits = records.hashes.tolist(), records.traits.tolist()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        files = pool.map(lambda row: read_file(images.path(row)), rows)
        try:
            tracked = track(files, f"Hashing {images.name}", len(rows))
            for row, file in zip(rows, tracked, strict=True):
                hashes[row], traits[row] = file
        except OSError as error:
            raise OodmlError(f"{images.name}: {error}", str(error.filename or "")) from error
    texts = np.array(hashes, dtype=np.str_), np.array(traits, dtype=np.str_)
    updated = FileRecords(*texts, records.decoded, records.problems)
    _save_records(images, times, updated)
    return updated


def check_files(images: ImageSet, log: Log = no_log) -> FileRecords:
    """Decode every file whose record is missing or outdated, and return all records; those of
    images in memory state no problems."""
    if images.pixels is not None:
        return FileRecords.empty(len(images))
    times = file_times(images)
    records = cached_records(images, times)
    rows = np.flatnonzero(~records.decoded)
    if len(rows) == 0:
        return records
    log(f"checking that {count_noun(len(rows), 'image')} of {images.name} can be read")
    columns = records.hashes, records.traits, records.problems
    files = [DecodedFile(*row) for row in zip(*columns, strict=True)]
    decoded = decode_files(images, rows, lambda _: None)
    for row, file in zip(rows, track(decoded, f"Checking {images.name}", len(rows)), strict=True):
        files[row] = file
    return save_decoded(images, times, files)


def refuse_corrupt(images: ImageSet, problems: Sequence[str], advice: str) -> None:
    """Raise an error that lists the images with problems, if there are any."""
    if corrupt := [problem for problem in problems if problem]:
        more = [f"… and {len(corrupt) - MAX_NAMED} more"] if len(corrupt) > MAX_NAMED else []
        head = f"{images.name}: {count_noun(len(corrupt), 'corrupt image')}. {advice}"
        lines = "\n  ".join([head, *corrupt[:MAX_NAMED], *more])
        raise OodmlError(lines, location=images.name, given=corrupt)


def decode_files(
    images: ImageSet,
    rows: NDArray[np.int64],
    transform: Callable[[Image.Image], Any],
    at_least: int | None = None,
) -> Iterator[DecodedFile]:
    """Decode and transform images in parallel threads, and yield them in order.

    A JPEG may be decoded smaller, such that `at_least` pixels of its short side remain.
    """

    def decode(row: int) -> DecodedFile:
        try:
            content, traits = read_file(images.path(row)) if images.root else ("", "")
            image = images.read(row) if at_least is None else images.read(row, at_least)
            return DecodedFile(content, traits, value=transform(image))
        except OSError as error:  # missing, or not permitted
            return DecodedFile(MISSING, problem=str(error))
        except OodmlError as error:
            return DecodedFile(content, traits, str(error))

    count = os.cpu_count() or 1
    block = 32 * count  # bounds how many results wait in memory
    with ThreadPoolExecutor(count) as pool:
        for start in range(0, len(rows), block):
            yield from pool.map(decode, rows[start : start + block].tolist())


def read_file(path: Path) -> tuple[str, str]:
    """The hash of a file's bytes, and its traits."""
    require_regular_file(path)
    data = path.read_bytes()
    return content_hash(data)[:32], traits_of(data)


def file_times(images: ImageSet) -> FileTimes:
    """The size and times of every file."""
    times = np.full((len(images), 3), -1, dtype=np.int64)
    for row in range(len(images)):
        with suppress(OSError):
            status = os.stat(images.path(row))
            if stat.S_ISREG(status.st_mode):
                times[row] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return times


def cached_records(images: ImageSet, times: FileTimes) -> FileRecords:
    """The cached records of the files whose size and times did not change."""
    table, none = _read_table(images), FileRecords.empty(len(images))
    ids = table["ids"]
    if len(ids) == 0:
        return none
    rows = np.searchsorted(ids, images.ids).clip(max=len(ids) - 1)
    valid = (ids[rows] == images.ids) & (table["times"][rows] == times).all(axis=1)
    columns = {name: np.where(valid, table[name][rows], no) for name, no in vars(none).items()}
    return FileRecords(**columns)


def save_decoded(images: ImageSet, times: FileTimes, files: Sequence[DecodedFile]) -> FileRecords:
    """Cache and return the records of decoded files that had these times before they were read."""
    columns = [(file.hash, file.traits, file.problem) for file in files]
    hashes, traits, problems = np.array(columns, dtype=np.str_).reshape(-1, 3).T
    records = FileRecords(hashes, traits, hashes != "", problems)
    _save_records(images, times, records)
    return records


def _save_records(images: ImageSet, times: FileTimes, records: FileRecords) -> None:
    """Cache the records of files that had these sizes and times before they were read, but not of
    files changed in the last `SETTLE_SECONDS`: another change may not be visible in their times."""
    settled = (times[:, 0] >= 0) & (times[:, 2] <= (time.time() - SETTLE_SECONDS) * 1e9)
    settled &= (records.hashes != "") & (records.hashes != MISSING)
    table = _read_table(images)
    other = ~np.isin(table["ids"], images.ids)
    new = {"ids": images.ids, "times": times, **vars(records)}
    merged = {name: np.concatenate([table[name][other], new[name][settled]]) for name in new}
    order = np.argsort(merged["ids"])
    columns: dict[str, Any] = {name: values[order] for name, values in merged.items()}
    try:
        with replacing(table_path(images)) as temporary:
            np.savez(temporary, allow_pickle=False, **columns)
    except OSError as error:
        log_cache_failure(error)


def table_path(images: ImageSet) -> Path:
    """The cache file of a folder's records; every way of decoding has its own."""
    assert images.root is not None
    reader = (part for item in reader_fingerprints(images).items() for part in item)
    key = content_hash(RECORDS_VERSION, os.fsencode(images.root.resolve()), *reader)
    return cache_folder() / "contents" / f"{key[:24]}.npz"


def _read_table(images: ImageSet) -> dict[str, NDArray[Any]]:
    """The cached ids, times, and records of a folder, sorted by id."""
    ids, times = np.full(0, ""), np.zeros((0, 3), dtype=np.int64)
    empty = {"ids": ids, "times": times, **vars(FileRecords.empty(0))}
    try:
        with table_path(images).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in empty}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # damaged, or an older version
        return empty
