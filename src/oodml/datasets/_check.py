"""Look at every image before a run does: what is there, what is broken, what is doubtful."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.images import contents
from oodml.images.hashes import stamps_of
from oodml.images.image_set import ImageSet

Quantiles = tuple[float, float, float]
"""Least, median, greatest."""


@dataclass(frozen=True)
class Look:
    """What decoding one image gave: its size and a hash of its pixels, or why it failed."""

    width: int = 0
    height: int = 0
    content: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Findings:
    """What was found in a set of images.

    corrupt: the images that can't be read, with the reason.
    too_small: the classes with fewer than `minimum` readable images, with their number.
    duplicates: groups of ids whose pixels are the same although their classes differ.
    repeats: how many readable images repeat an earlier one of their own class.
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


def check(
    images: ImageSet, minimum: int = 2, advance: Callable[[], Any] = lambda: None
) -> Findings:
    """Decode every image and say what was found; `advance` is called after each image."""
    if minimum < 2:
        raise OodmlError(f"minimum must be 2 or more (retrieval needs a pair); given {minimum}")
    looks = []
    for look in _looks(images):
        looks.append(look)
        advance()
    good = np.array([not look.problem for look in looks], dtype=bool)
    counts = np.bincount(images.labels[good], minlength=len(images.class_names))
    duplicates, repeats = _same(images, looks)
    parts, sizes = np.unique(
        images.partition if images.partition is not None else [], return_counts=True
    )
    return Findings(
        name=images.name,
        images=len(images),
        classes=len(images.class_names),
        superclasses=len(set(images.superclass_of.values())),
        partition=dict(zip(parts.tolist(), sizes.tolist(), strict=True)),
        width=_quantiles([look.width for look in looks if not look.problem]),
        height=_quantiles([look.height for look in looks if not look.problem]),
        per_class=_quantiles(counts.tolist()),
        corrupt={
            str(name): look.problem
            for name, look in zip(images.ids, looks, strict=True)
            if look.problem
        },
        minimum=minimum,
        too_small={
            name: int(count)
            for name, count in zip(images.class_names, counts, strict=True)
            if count < minimum
        },
        duplicates=duplicates,
        repeats=repeats,
    )


def without_corrupt(images: ImageSet) -> ImageSet:
    """The images that can be read; `left_out` names the others."""
    good = contents.contents(images).problems == ""
    if good.all():
        return images
    rest = images.select(good)
    return replace(rest, left_out=(*images.left_out, *images.ids[~good].tolist()))


def _looks(images: ImageSet) -> Iterator[Look]:
    """Every image, decoded; which can be read is remembered for studies."""
    in_memory = images.pixels is not None
    stamps = None if in_memory else stamps_of(images)
    hashes, problems = [], []
    for look in contents.looks(images, np.arange(len(images)), _measured):
        hashes.append(look.content)
        problems.append(look.problem)
        yield look.found or Look(problem=look.problem)
    if stamps is not None:
        contents.remember(images, stamps, hashes, problems)


def _measured(image: Image.Image) -> Look:
    size = f"{image.width}x{image.height}"
    return Look(image.width, image.height, content_hash(size, image.tobytes()))


def _same(images: ImageSet, looks: list[Look]) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Groups of equal images over more than one class; number of repeats within a class."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        if not look.problem:
            groups[look.content].append(index)
    across, repeats = [], 0
    for rows in groups.values():
        classes = len(set(images.labels[rows].tolist()))
        repeats += len(rows) - classes
        if classes > 1:
            across.append(tuple(images.ids[rows].tolist()))
    return tuple(across), repeats


def _quantiles(values: list[int]) -> Quantiles:
    if not values:
        return (0.0, 0.0, 0.0)
    return (float(min(values)), float(np.median(values)), float(max(values)))
