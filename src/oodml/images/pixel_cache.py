"""Images decoded and resized once, stored in one file, and read from it at memory speed.

The file is keyed by the contents of the images, so a changed image is decoded again. Images that
are already small are stored unchanged; their views are exact.
"""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.arrays import Names
from oodml.errors import error_at
from oodml.files import cache_folder, content_hash, log_cache_failure
from oodml.images import fingerprint
from oodml.images.fingerprint import DecodedFile, FileRecords, Log, file_times, no_log
from oodml.images.image_set import ImageSet, InputImage
from oodml.images.transforms import resize_short
from oodml.progress import track

VERSION = "2"
"""Increase it when the same files yield other pixels."""


@dataclass(frozen=True)
class PixelCache:
    """The decoded images of one cache file: [m] the sorted hash of each file with its decoding, the
    position of each image in `pixels`, [m 2] height and width, and whether it is smaller than
    its file."""

    pixels: NDArray[np.uint8]
    contents: Names
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]
    resized: NDArray[np.bool_]

    def image(self, index: int) -> InputImage:
        """The image at an index; the pixels of a resized image are not copied."""
        start, (height, width) = self.offsets[index], self.shapes[index]
        array = self.pixels[start : start + 3 * height * width].reshape(height, width, 3)
        return array if self.resized[index] else Image.fromarray(array)


@dataclass(frozen=True, repr=False)
class ResizedImages(ImageSet):
    """Images whose views are made from images of a short side in pixels; `read` still returns the
    originals. Without a cache, in which cache_rows are the rows, views resize on demand."""

    PER_ROW: ClassVar[tuple[str, ...]] = (*ImageSet.PER_ROW, "cache_rows")

    short: int = 0
    cache: PixelCache | None = None
    cache_rows: NDArray[np.int64] | None = None

    def input_image(self, index: int) -> InputImage:
        if self.cache is None or self.cache_rows is None:
            return shrink(self.read(index, 2 * self.short), self.short)
        return self.cache.image(int(self.cache_rows[index]))


def resized_images(
    images: ImageSet, short: int, *, fill_cache: bool = True, log: Log = no_log
) -> ResizedImages:
    """The images on disk, resized to a short side in pixels if they are larger."""
    if fill_cache:
        records = fill_pixel_cache(images, short, log)
        fingerprint.refuse_corrupt(images, records.problems.tolist(), "Repair or remove them.")
    else:
        records = fingerprint.cached_records(images, file_times(images))
    readable = records.decoded.all() and not records.problems.any()
    cache = _open(_cache_path(images, records, short)) if readable else None
    contents = records.contents(images.background)
    rows = None if cache is None else np.searchsorted(cache.contents, contents)
    return ResizedImages(**images.values(), short=short, cache=cache, cache_rows=rows)


def fill_pixel_cache(images: ImageSet, short: int, log: Log = no_log) -> FileRecords:
    """Store all readable images in the cache unless they are there, and return their records.

    One of several processes decodes, the others wait. Without write access, files are checked.
    """
    if records := _stored_records(images, short):
        return records
    try:
        with _lock(content_hash(os.fsencode(str(images.root)), *images.ids.tolist())[:24]):
            return _stored_records(images, short) or _fill(images, short, log)
    except OSError as error:
        log_cache_failure(error)
        return fingerprint.check_files(images, log)


def _stored_records(images: ImageSet, short: int) -> FileRecords | None:
    """The records of the images if all readable ones are in the cache."""
    records = fingerprint.cached_records(images, file_times(images))
    stored = records.decoded.all() and _cache_path(images, records, short).exists()
    return records if stored else None


def shrink(image: Image.Image, short: int) -> InputImage:
    """Resize an image to a short side in pixels; a smaller image is returned unchanged."""
    return image if min(image.size) <= short else np.asarray(resize_short(image, short))


def list_pixel_caches() -> list[tuple[str, int]]:
    """A description of each cache file, and its size in bytes."""
    caches = []
    for index in sorted((cache_folder() / "pixels").glob("*/index.npz")):
        with np.load(index, allow_pickle=False) as arrays:
            name, short, count = arrays["name"], arrays["short"], len(arrays["contents"])
        size = (index.parent / "pixels.bin").stat().st_size
        caches.append((f"{name}: {count} images, short side {short}", size))
    return caches


def _fill(images: ImageSet, short: int, log: Log) -> FileRecords:
    times, folder = file_times(images), cache_folder() / "pixels"
    folder.mkdir(parents=True, exist_ok=True)
    files: list[DecodedFile] = []
    entries: dict[str, tuple[int, ...]] = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
        target = Path(temporary) / "cache"
        target.mkdir()
        free, sampled = shutil.disk_usage(folder).free, min(64, len(images))
        with (target / "pixels.bin").open("wb") as stream:
            work = (np.arange(len(images)), lambda image: shrink(image, short), 2 * short)
            decoded = fingerprint.decode_files(images, *work)
            for file in track(decoded, f"Resizing {images.name}", len(images)):
                files.append(file._replace(value=None))
                if file.value is not None and file.hash not in entries:
                    pixels = np.asarray(file.value)
                    resized = not isinstance(file.value, Image.Image)
                    entries[file.hash] = (stream.tell(), *pixels.shape[:2], resized)
                    stream.write(np.ascontiguousarray(pixels).data)
                if len(files) == sampled:
                    size = stream.tell() * len(images) // sampled
                    _check_disk(images, short, folder, size, free, log)
            stream.flush()
            os.fsync(stream.fileno())
        records = fingerprint.save_decoded(images, times, files)
        contents = dict(zip(records.contents(images.background), records.hashes, strict=True))
        order = sorted(content for content, name in contents.items() if name in entries)
        table = np.array([entries[contents[one]] for one in order], dtype=np.int64).reshape(-1, 4)
        np.savez(
            target / "index.npz", name=images.name, short=short, contents=np.array(order),
            offsets=table[:, 0], shapes=table[:, 1:3], resized=table[:, 3].astype(bool),
        )  # fmt: skip
        with contextlib.suppress(OSError):  # another process stored the same file
            target.rename(_cache_path(images, records, short))
    return records


def _check_disk(images: ImageSet, short: int, folder: Path, size: int, free: int, log: Log) -> None:
    """Log how large the cache becomes, and stop before the disk is full."""
    text = f"{size / 1e9:.1f} GB" if size > 1e8 else f"{size / 1e6:.1f} MB"
    name = f"pixel cache of {images.name}"
    log(f"{name}: {len(images)} images, short side {short}, about {text} in {folder}")
    if size > free:
        problem = f"the {name} needs about {text}, but only {free / 1e9:.1f} GB are free"
        advice = "Set OODML_CACHE to a folder on another disk, or set model.input_cache to a side"
        text = f'{problem}. {advice} below {short} or to "off"'
        raise error_at(folder, text, "model.input_cache")


def _cache_path(images: ImageSet, records: FileRecords, short: int) -> Path:
    contents = records.contents(images.background)[records.problems == ""]
    key = content_hash(VERSION, str(short), *np.unique(contents).tolist())
    return cache_folder() / "pixels" / key[:24]


def _open(folder: Path) -> PixelCache | None:
    if not folder.exists():
        return None
    try:
        with (folder / "index.npz").open("rb") as stream, np.load(stream) as arrays:
            values = {name: arrays[name] for name in ("contents", "offsets", "shapes", "resized")}
        mapped = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
        expected = int((values["offsets"] + 3 * values["shapes"].prod(axis=1)).max(initial=0))
        if len(mapped) != expected:
            raise ValueError(f"pixels.bin has {len(mapped)} bytes instead of {expected}")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        problem = f"the pixel cache is damaged ({error}). Delete it; the next run recreates it"
        raise error_at(folder, problem) from error
    return PixelCache(np.asarray(mapped), **values)


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """Hold an exclusive lock; the system releases it if the process dies."""
    try:
        import fcntl
    except ImportError:  # without locks two processes may do the same work; the first result wins
        yield
        return
    folder = cache_folder() / "pixels"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as stream:
        with contextlib.suppress(OSError):  # not every file system supports locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
