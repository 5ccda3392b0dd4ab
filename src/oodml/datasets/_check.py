"""Check all images of a dataset: counts, sizes, corrupt and unusual images, and duplicates."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.images.decode import TRAITS
from oodml.images.fingerprint import check_files, decode_files, file_times, save_decoded
from oodml.images.image_set import ImageSet

Quantiles = tuple[float, float, float]
"""Minimum, median, and maximum."""


@dataclass(frozen=True)
class CheckedImage:
    """The size of a decoded image, a hash of its pixels, and its traits, or why decoding failed."""

    width: int = 0
    height: int = 0
    hash: str = ""
    traits: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class CheckReport:
    """The results of checking a set of images.

    Attributes:
        corrupt: the reason for each image that cannot be read.
        too_small: the number of readable images of each class with fewer than `minimum`.
        duplicates: groups of ids with equal pixels but different classes.
        repeats: the number of readable images that repeat an earlier one of the same class.
        traits: the ids of the images with each of `oodml.images.decode.TRAITS`.
        skipped: the number of files in the folder that are not read, by suffix.
    """

    name: str
    images: int
    classes: int
    superclasses: int
    partition: Mapping[str, int]
    width: Quantiles
    height: Quantiles
    per_class: Quantiles
    corrupt: Mapping[str, str]
    minimum: int
    too_small: Mapping[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    repeats: int
    traits: Mapping[str, tuple[str, ...]]
    background: str
    skipped: Mapping[str, int]


def check(
    images: ImageSet, minimum: int = 2, advance: Callable[[], Any] = lambda: None
) -> CheckReport:
    """Decode every image and report what was found.

    Args:
        images: the images.
        minimum: report classes with fewer readable images than this, at least 2.
        advance: called after each image.
    """
    if minimum < 2:
        message = f"minimum must be at least 2, because retrieval needs a pair; given {minimum}"
        raise OodmlError(message, "minimum", minimum)
    checked = []
    for image in _check_all(images):
        checked.append(image)
        advance()
    good = np.array([not image.problem for image in checked], dtype=bool)
    counts = np.bincount(images.labels[good], minlength=len(images.class_names))
    per_class = dict(zip(images.class_names, counts.tolist(), strict=True))
    duplicates, repeats = _duplicates(images, checked)
    parts = [] if images.partition is None else images.partition.tolist()
    named = list(zip(images.ids.tolist(), checked, strict=True))
    return CheckReport(
        name=images.name,
        images=len(images),
        classes=len(images.class_names),
        superclasses=len(set(images.superclass_of.values())),
        partition=dict(sorted(Counter(parts).items())),
        width=_quantiles([image.width for image in checked if not image.problem]),
        height=_quantiles([image.height for image in checked if not image.problem]),
        per_class=_quantiles(counts.tolist()),
        corrupt={name: image.problem for name, image in named if image.problem},
        minimum=minimum,
        too_small={name: count for name, count in per_class.items() if count < minimum},
        duplicates=duplicates,
        repeats=repeats,
        traits={t: tuple(name for name, image in named if t in image.traits) for t in TRAITS},
        background=images.background,
        skipped=dict(images.skipped),
    )


def without_corrupt(images: ImageSet) -> ImageSet:
    """The readable images; the others are listed in `left_out`."""
    good = check_files(images).problems == ""
    if good.all():
        return images
    left_out = (*images.left_out, *images.ids[~good].tolist())
    return replace(images.select(good), left_out=left_out)


def _check_all(images: ImageSet) -> Iterator[CheckedImage]:
    """Decode every image, and cache which of the files can be read."""
    times = None if images.root is None else file_times(images)
    files = []
    for file in decode_files(images, np.arange(len(images)), _measure):
        files.append((file.hash, file.traits, file.problem))
        image = file.value or CheckedImage(problem=file.problem)
        yield replace(image, traits=tuple(file.traits.split()))
    if times is not None:
        save_decoded(images, times, files)


def _measure(image: Image.Image) -> CheckedImage:
    size = f"{image.width}x{image.height}"
    return CheckedImage(image.width, image.height, content_hash(size, image.tobytes()))


def _duplicates(
    images: ImageSet, checked: list[CheckedImage]
) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Groups of equal images in more than one class; the number of repeats within classes."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, image in enumerate(checked):
        if not image.problem:
            groups[image.hash].append(row)
    across, repeats = [], 0
    for rows in groups.values():
        n_classes = len(set(images.labels[rows].tolist()))
        repeats += len(rows) - n_classes
        if n_classes > 1:
            across.append(tuple(images.ids[rows].tolist()))
    return tuple(across), repeats


def _quantiles(values: list[int]) -> Quantiles:
    if not values:
        return (0.0, 0.0, 0.0)
    return (float(min(values)), float(np.median(values)), float(max(values)))
