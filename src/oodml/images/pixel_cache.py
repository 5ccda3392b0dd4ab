"""Pictures decoded and made smaller once, kept in one file, and read from it at memory speed.

The file is known by the contents of the images, so a changed image is decoded anew; ids, classes
and folders don't count. A picture that is small already is kept as it is, and what is made of it
is exact to the bit.
"""

import contextlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.arrays import Names
from oodml.backbones import load_backbone
from oodml.errors import OodmlError
from oodml.files import cache_folder, content_hash
from oodml.images.contents import (
    Contents,
    Say,
    looks,
    quiet,
    refuse_corrupt,
    remember,
    remembered,
)
from oodml.images.hashes import stamps_of
from oodml.images.image_set import ImageSet, Picture
from oodml.images.transforms import kept_short, recipe, resize_short
from oodml.model import ModelSettings

VERSION = "1"
"""Raise it when the same images give other pixels."""
TOLD_EVERY = 20.0
"""Seconds between two words on how far it got."""


@dataclass(frozen=True)
class Kept:
    """A file of pictures. All arrays are in the order of `hashes`, which are sorted.

    smaller: [m] whether the picture was made smaller.
    """

    pixels: NDArray[np.uint8]
    hashes: Names
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]
    smaller: NDArray[np.bool_]

    def picture(self, place: int) -> Picture:
        """The picture at a place; the pixels of one that was made smaller are not copied."""
        start, (height, width) = self.offsets[place], self.shapes[place]
        flat = self.pixels[start : start + 3 * height * width]
        array = flat.reshape(height, width, 3)
        return array if self.smaller[place] else Image.fromarray(array)


@dataclass(frozen=True)
class SmallImages(ImageSet):
    """Images whose views are made of smaller pictures; `read` still gives the originals.

    short: pixels of the short side of all that were larger. kept: a file that holds them, or None
    to make them as they are asked for. places: [n] of each image in the file.
    """

    short: int = 0
    kept: Kept | None = None
    places: NDArray[np.int64] | None = None

    def picture(self, index: int) -> Picture:
        if self.kept is None or self.places is None:
            return smaller(self.read(index, 2 * self.short), self.short)
        return self.kept.picture(int(self.places[index]))

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> ImageSet:
        chosen = super().select(rows)
        assert isinstance(chosen, SmallImages)
        return replace(chosen, places=None if self.places is None else self.places[rows])


def input_short(settings: ModelSettings) -> int | None:
    """The short side at which a model's images on disk are kept; None if they are read anew.

    That is `input_cache`, or by "auto" what the augmentation needs (`kept_short`). On cached
    features every image is read once a view, and nothing is gained.
    """
    if settings.mode == "head" or settings.input_cache == "off":
        return None
    if settings.input_cache != "auto":
        return settings.input_cache
    size = settings.image_size or _own_size(settings.backbone)
    return kept_short(recipe(settings.augmentation), size)


def keepable(images: ImageSet) -> bool:
    """Whether smaller pictures may stand for these images.

    Not for those in memory, and not for a class of its own, which may read files in another way.
    """
    return type(images) is ImageSet and images.pixels is None


def input_images(
    images: ImageSet, settings: ModelSettings, *, keep: bool = True, say: Say = quiet
) -> ImageSet:
    """The images as a model of these settings sees them, in training and in testing.

    keep: fill the cache; False makes the same pictures, from the cache only if they are in it.
    """
    short = input_short(settings)
    if short is None or not keepable(images):
        return images
    return small_images(images, short, keep=keep, say=say)


def small_images(
    images: ImageSet, short: int, *, keep: bool = True, say: Say = quiet
) -> SmallImages:
    """Images on disk whose views are made of pictures with this short side.

    Raises OodmlError naming corrupt images, if the pictures are kept.
    """
    known = keep_pixels(images, short, say) if keep else remembered(images, stamps_of(images))
    if keep:
        refuse_corrupt(images, known.problems.tolist(), "Repair or remove them.")
    readable = known.complete and not known.problems.any()
    kept = _opened(_file(known, short)) if readable else None
    values = {field: getattr(images, field) for field in ImageSet.__dataclass_fields__}
    places = None if kept is None else np.searchsorted(kept.hashes, known.hashes)
    return SmallImages(**values, short=short, kept=kept, places=places)


def keep_pixels(images: ImageSet, short: int, say: Say = quiet) -> Contents:
    """See that the pictures of all images that can be read are kept; gives what is known of all.

    Of several processes one does it, the others wait.
    """
    known = remembered(images, stamps_of(images))
    if known.complete and _file(known, short).exists():
        return known
    with _alone(content_hash(str(images.root), *images.ids.tolist())[:24]):
        known = remembered(images, stamps_of(images))
        if known.complete and _file(known, short).exists():
            return known
        return _fill(images, short, say)


def smaller(image: Image.Image, short: int) -> Picture:
    """The pixels of an image at a short side; an image that is small enough stays what it is."""
    return image if min(image.size) <= short else np.asarray(resize_short(image, short))


def kept_files() -> list[tuple[str, int]]:
    """What the cache holds: a description of each file of pictures, and its bytes."""
    found = []
    for index in sorted((cache_folder() / "pixels").glob("*/index.npz")):
        with np.load(index, allow_pickle=False) as arrays:
            name, short, count = arrays["name"], arrays["short"], len(arrays["hashes"])
        size = (index.parent / "pixels.bin").stat().st_size
        found.append((f"{name}: {count} images, short side {short}", size))
    return found


def _fill(images: ImageSet, short: int, say: Say) -> Contents:
    """Decode all images, keep them smaller, and remember which could not be read."""
    stamps = stamps_of(images)
    folder = cache_folder() / "pixels"
    folder.mkdir(parents=True, exist_ok=True)
    hashes, problems, entries = [], [], {}
    rows = np.arange(len(images))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as place:
        made = Path(place) / "made"
        made.mkdir()
        progress = _Progress(images.name, len(images), short, folder, say)
        with (made / "pixels.bin").open("wb") as stream:
            found = looks(images, rows, lambda image: smaller(image, short), 2 * short)
            for look in found:
                hashes.append(look.content)
                problems.append(look.problem)
                if look.found is not None and look.content not in entries:
                    pixels = np.asarray(look.found)
                    shrunk = not isinstance(look.found, Image.Image)
                    entries[look.content] = (stream.tell(), *pixels.shape[:2], shrunk)
                    stream.write(np.ascontiguousarray(pixels).data)
                progress.step(stream.tell())
            stream.flush()
            os.fsync(stream.fileno())
        known = remember(images, stamps, hashes, problems)
        order = sorted(entries)
        table = np.array([entries[content] for content in order], dtype=np.int64).reshape(-1, 4)
        np.savez(
            made / "index.npz", name=images.name, short=short, hashes=np.array(order),
            offsets=table[:, 0], shapes=table[:, 1:3], smaller=table[:, 3].astype(bool),
        )  # fmt: skip
        with contextlib.suppress(OSError):  # the same file is there already
            made.rename(_file(known, short))
    return known


class _Progress:
    """Tells how far a filling got, and stops it before the disk is full."""

    def __init__(self, name: str, count: int, short: int, folder: Path, say: Say) -> None:
        self.name, self.count, self.short, self.folder, self.say = name, count, short, folder, say
        self.done = 0
        self.told = time.monotonic()
        self.free = shutil.disk_usage(folder).free

    def step(self, written: int) -> None:
        self.done += 1
        if self.done == min(64, self.count):
            self._foresee(written * self.count // self.done)
        if time.monotonic() - self.told > TOLD_EVERY:
            self.told = time.monotonic()
            self.say(f"  {self.done} of {self.count} images kept")

    def _foresee(self, size: int) -> None:
        told = f"{size / 1e9:.1f} GB" if size > 1e8 else f"{size / 1e6:.1f} MB"
        self.say(f"keeping the pixels of {self.name}: {self.count} images, short side "
                 f"{self.short}, about {told} in {self.folder}")  # fmt: skip
        if size > self.free:
            raise OodmlError(
                f"{self.folder}: keeping the pixels of {self.name} takes about {told}, and "
                f"{self.free / 1e9:.1f} GB are free. Set OODML_CACHE to another disk, or "
                f'model.input_cache to a smaller side than {self.short}, or to "off"'
            )


def _file(known: Contents, short: int) -> Path:
    """Where the pictures of all files lie that can be read."""
    hashes = known.hashes[known.problems == ""]
    key = content_hash(VERSION, str(short), *np.unique(hashes).tolist())
    return cache_folder() / "pixels" / key[:24]


def _opened(folder: Path) -> Kept | None:
    """The file in a folder, its pixels left on disk until they are asked for."""
    if not folder.exists():
        return None
    try:
        with (folder / "index.npz").open("rb") as stream, np.load(stream) as arrays:
            names = ("hashes", "offsets", "shapes", "smaller")
            values = {name: arrays[name] for name in names}
        mapped = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
        wanted = int((values["offsets"] + 3 * values["shapes"].prod(axis=1)).max(initial=0))
        if len(mapped) != wanted:
            raise ValueError(f"pixels.bin has {len(mapped)} bytes of {wanted}")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise OodmlError(f"{folder}: damaged ({error}). Delete it; it is made anew.") from error
    return Kept(np.asarray(mapped), **values)


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process at a time; the system lets go of the lock when a process is gone."""
    try:
        import fcntl
    except ImportError:  # there, two processes may do the same work; the first file stays
        yield
        return
    folder = cache_folder() / "pixels"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as stream:
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@lru_cache
def _own_size(backbone: str) -> int:
    return load_backbone(backbone, "none").image_size
