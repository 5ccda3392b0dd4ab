"""A labelled collection of images: one row an image."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.images.hashes import hashes_of
from oodml.user_code import class_fingerprints

UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises on broken files, by format."""


Picture = Image.Image | NDArray[np.uint8]
"""An RGB image as it is, or the pixels [h w 3] of one that was made smaller to be kept."""


@dataclass(frozen=True)
class ImageSet:
    """Images with the class of each, on disk or in memory.

    name: what the collection is called in results.
    ids: [n] one name an image, unique; for files the path relative to `root`.
    classes: [n] the class of each image.
    superclasses: [n] the group that the class belongs to, or None.
    root: the folder the ids are relative to, or None when `pixels` holds the images.
    pixels: [n h w] or [n h w 3] uint8, or None.
    partition: [n] the collection's own split ("train", "test", "query", "gallery"), or None.
    left_out: ids of images that could not be read and were left out (`skip_corrupt`).
    """

    name: str
    ids: Names
    classes: Names
    superclasses: Names | None = None
    root: Path | None = None
    pixels: NDArray[np.uint8] | None = None
    partition: Names | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for column in ("classes", "superclasses", "pixels", "partition"):
            values = getattr(self, column)
            if values is not None and len(values) != len(self.ids):
                raise OodmlError(f"{self.name}: {len(values)} {column} for {len(self.ids)} images")
        if (self.root is None) == (self.pixels is None):
            raise OodmlError(f"{self.name}: give either root or pixels")
        if len(np.unique(self.ids)) != len(self.ids):
            names, counts = np.unique(self.ids, return_counts=True)
            raise OodmlError(f"{self.name}: image {str(names[counts > 1][0])!r} is listed twice")
        self._check_superclasses()

    def _check_superclasses(self) -> None:
        if self.superclasses is None:
            return
        for name, group in zip(self.classes.tolist(), self.superclasses.tolist(), strict=True):
            if self.superclass_of[name] != group:
                raise OodmlError(
                    f"{self.name}: class {name!r} is in two superclasses, "
                    f"{group!r} and {self.superclass_of[name]!r}"
                )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes, sorted."""
        return tuple(np.unique(self.classes).tolist())

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[n] the position of each image's class in `class_names`."""
        return np.searchsorted(np.asarray(self.class_names), self.classes)

    @cached_property
    def superclass_of(self) -> dict[str, str]:
        """The superclass of each class; empty without superclasses."""
        if self.superclasses is None:
            return {}
        return dict(zip(self.classes.tolist(), self.superclasses.tolist(), strict=True))

    @cached_property
    def reader(self) -> dict[str, str]:
        """What stands for the code of a class that may read images in a way of its own.

        Empty for those of this package.
        """
        return {} if type(self).__module__.startswith("oodml.") else class_fingerprints(type(self))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the ids, classes and contents: pixels in memory, or the bytes of files.

        Files are read once; after that a look at their sizes and times of change is enough.
        """
        order = np.argsort(self.ids)
        ids, classes = self.ids[order].tolist(), self.classes[order].tolist()
        rows = "\n".join(f"{name}\t{group}" for name, group in zip(ids, classes, strict=True))
        if self.pixels is not None:
            return content_hash(rows, np.ascontiguousarray(self.pixels[order]).tobytes())[:16]
        return content_hash(rows, "\n".join(hashes_of(self)[order].tolist()))[:16]

    def path(self, index: int) -> Path:
        """Where an image lies on disk."""
        if self.root is None:
            raise OodmlError(f"{self.name} holds its images in memory; they have no path")
        return self.root / str(self.ids[index])

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        """One image as RGB.

        at_least: the short side that is enough, in pixels; a JPEG may then be decoded at a half,
        quarter or eighth of its size if that leaves so many.
        """
        if self.pixels is not None:
            return Image.fromarray(self.pixels[index]).convert("RGB")
        path = self.path(index)
        try:
            with Image.open(path) as image:
                if at_least is not None:
                    image.draft(None, (at_least, at_least))
                return _as_rgb(image)
        except UNREADABLE as error:
            raise OodmlError(f"{path}: not a readable image: {error}") from error

    def picture(self, index: int) -> Picture:
        """What the views of an image are made of."""
        return self.read(index)

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "ImageSet":
        """The images at these positions, in this order."""

        def taken(values: Names | None) -> Names | None:
            return None if values is None else values[rows]

        return replace(
            self,
            ids=self.ids[rows],
            classes=self.classes[rows],
            superclasses=taken(self.superclasses),
            pixels=None if self.pixels is None else self.pixels[rows],
            partition=taken(self.partition),
        )

    def without(self, ids: Iterable[str]) -> "ImageSet":
        """The images but for those of some ids."""
        gone = np.isin(self.ids, list(ids))
        return self.select(~gone) if gone.any() else self

    def subset(self, classes: Iterable[str]) -> "ImageSet":
        """The images of some classes, in the order of this set."""
        wanted = list(classes)
        missing = sorted(set(wanted) - set(self.class_names))
        if missing:
            raise OodmlError(f"{self.name} has no class {missing[0]!r} ({len(missing)} missing)")
        return self.select(np.isin(self.classes, wanted))


def _as_rgb(image: Image.Image) -> Image.Image:
    """Pillow would clip 16-bit grey at 255; here its upper eight bits are taken."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
