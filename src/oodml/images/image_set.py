"""A labeled collection of images, one per row."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.images.decode import decode, parse_background
from oodml.label_names import Labeled

InputImage = Image.Image | NDArray[np.uint8]
"""An RGB image at its original size, or the pixels [h w 3] of one that was resized."""


@dataclass(frozen=True)
class ImageSet(Labeled):
    """Images with one class per image, on disk or in memory. A subclass may override `read`.

    Attributes:
        ids: [n] unique names of the images; for files, the path relative to `root`.
        classes, superclasses: [n] the class of each image, and its superclass or None.
        root, pixels: the folder of the files; or [n h w] or [n h w 3] uint8 in memory, or [n]
            images of Pillow, or encoded as bytes.
        partition: [n] the predefined part, such as "train" or "query", of each image, or None.
        left_out: ids of the unreadable images that `skip_corrupt` removed.
        background: the color behind transparent pixels: "white", "black", or "#rrggbb".
        skipped: the files in the folder that are not read as images, as (suffix, count).
        empty_folders: the folders below `root` that contain no images.
        attributes: [n] further columns of a table as text, "" where unknown.

    Raises:
        OodmlError: if columns differ in length, an id is repeated, or a class has two superclasses.
    """

    PER_ROW: ClassVar[tuple[str, ...]] = ("ids", "classes", "superclasses", "pixels", "partition")

    name: str
    ids: Names
    classes: Names
    superclasses: Names | None = None
    root: Path | None = None
    pixels: NDArray[Any] | None = None
    partition: Names | None = None
    left_out: tuple[str, ...] = ()
    background: str = "white"
    skipped: tuple[tuple[str, int], ...] = ()
    empty_folders: tuple[str, ...] = ()
    attributes: Mapping[str, Names] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column in self.PER_ROW:
            values = getattr(self, column)
            if values is not None and len(values) != len(self.ids):
                raise self._error(f"{len(values)} {column} for {len(self.ids)} images", column)
        if (self.root is None) == (self.pixels is None):
            raise self._error("set either root or pixels", "root")
        names, counts = np.unique(self.ids, return_counts=True)
        if len(names) != len(self.ids):
            raise self._error(f"image {str(names[counts > 1][0])!r} is listed twice", "ids")
        groups = [] if self.superclasses is None else self.superclasses.tolist()
        for name, group in zip(self.classes.tolist(), groups, strict=False):
            if self.superclass_of[name] != group:
                both = f"{group!r} and {self.superclass_of[name]!r}"
                raise self._error(f"class {name!r} has two superclasses, {both}", "superclasses")
        parse_background(self.background)

    def _error(self, message: str, column: str) -> OodmlError:
        return OodmlError(f"{self.name}: {message}", location=column)

    def __repr__(self) -> str:
        return f"ImageSet {self.name}: {len(self)} images, {self.describe_classes()}"

    def path(self, index: int) -> Path:
        """The file of an image."""
        if self.root is None:
            raise OodmlError(f"{self.name}: the images are in memory and have no files")
        return self.root / native_name(str(self.ids[index]))

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        """Decode the image in a row as RGB; see `oodml.images.decode.decode`."""
        if self.pixels is None:
            return decode(self.path(index), at_least, self.background)
        pixels = self.pixels[index]
        if isinstance(pixels, bytes):
            return decode(pixels, at_least, self.background, str(self.ids[index]))
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        return image.convert("RGB")

    def input_image(self, index: int) -> InputImage:
        """The image that views are made from."""
        return self.read(index)

    def values(self) -> dict[str, Any]:
        """The fields by name, to make another kind of set of the same images."""
        return {one.name: getattr(self, one.name) for one in fields(ImageSet)}


def native_name(name: str) -> str:
    """A Unicode file name as Python represents it in the current locale, which may not be UTF-8."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, repr=False)
class VectorImages(ImageSet):
    """A collection without pictures; `pixels` contains the vector [d] of each row."""

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        """Raise OodmlError: there are no pixels."""
        raise pixels_error(self.name)


def pixels_error(name: str, location: str = "data") -> OodmlError:
    """The error where something needs pixels but the data are vectors."""
    problem = (
        f"{name}: the data are vectors, without pixels. Training a whole network, adapting all "
        "layers, and embedding with another network need a folder or table of images"
    )
    return OodmlError(problem, location, name)
