"""Check all images of a dataset: counts, sizes, corrupt and unusual images, and duplicates."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from oodml.catalog import names
from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.images.decode import TRAITS
from oodml.images.fingerprint import MAX_NAMED, check_files, decode_files, file_times, save_decoded
from oodml.images.image_set import ImageSet
from oodml.progress import count_noun

Quantiles = tuple[float, float, float]
"""Minimum, median, and maximum."""


@dataclass(frozen=True)
class CheckReport:
    """The results of checking a set of images.

    `corrupt` has the reason for each image that cannot be read; `too_small` the number of readable
    images of each class with fewer than `minimum`; `duplicates` groups of ids with equal pixels but
    different classes; `repeats` the number of images that repeat an earlier one of their class;
    `traits` the ids of images by `oodml.images.decode.TRAITS`; `skipped` other files by suffix.
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
    empty_folders: tuple[str, ...]


def check(
    images: ImageSet, minimum: int = 2, advance: Callable[[], Any] = lambda: None
) -> CheckReport:
    """Decode every image, and cache which of the files can be read; `advance` follows each image.

    Classes with fewer than `minimum` readable images are reported.
    """
    if minimum < 2:
        problem = f"minimum must be at least 2, because retrieval needs a pair; given {minimum}"
        raise OodmlError(problem, "minimum", minimum)
    times, files = None if images.root is None else file_times(images), []
    for file in decode_files(images, np.arange(len(images)), _measure):
        files.append(file)
        advance()
    if times is not None:
        save_decoded(images, times, files)
    good = np.array([not file.problem for file in files], dtype=bool)
    values = [file.value for file in files if file.value]
    measured = pd.DataFrame(values, columns=["width", "height", "hash"])
    measured = measured.assign(id=images.ids[good], label=images.labels[good])
    counts = np.bincount(images.labels[good], minlength=len(images.class_names))
    per_class = dict(zip(images.class_names, counts.tolist(), strict=True))
    parts = [] if images.partition is None else images.partition.tolist()
    named = list(zip(images.ids.tolist(), files, strict=True))
    equal = measured.groupby("hash", sort=False)
    return CheckReport(
        name=images.name,
        images=len(images),
        classes=len(images.class_names),
        superclasses=len(set(images.superclass_of.values())),
        partition=dict(sorted(Counter(parts).items())),
        width=_quantiles(measured["width"]),
        height=_quantiles(measured["height"]),
        per_class=_quantiles(counts),
        corrupt={name: file.problem for name, file in named if file.problem},
        minimum=minimum,
        too_small={name: count for name, count in per_class.items() if count < minimum},
        duplicates=tuple(tuple(same["id"]) for _, same in equal if same["label"].nunique() > 1),
        repeats=int(measured.duplicated(["hash", "label"]).sum()),
        traits={
            trait: tuple(name for name, file in named if trait in file.traits.split())
            for trait in TRAITS
        },
        background=images.background,
        skipped=dict(images.skipped),
        empty_folders=images.empty_folders,
    )


def describe_gaps(images: ImageSet) -> list[str]:
    """Sentences about folders without images, and classes with a single one."""
    counts = np.bincount(images.labels).tolist()
    single = [name for name, n in zip(images.class_names, counts, strict=True) if n == 1]
    gaps = [("folder", "without images", images.empty_folders), ("class", "with one image", single)]
    return [
        f"{count_noun(len(own), noun)} {state}: "
        f"{', '.join(own[:MAX_NAMED])}{', …' * (len(own) > MAX_NAMED)}."
        for noun, state, own in gaps
        if own
    ]


def data_line(data: str, **options: Any) -> str:
    """The line of a study file for a dataset, with options such as `skip_corrupt=True`."""
    name, _, root = data.partition(":")
    if root and name in names("datasets"):
        data, options = name, {"root": root} | options
    values = {"name": data, **options}
    write = partial(json.dumps, ensure_ascii=False, default=str)
    pairs = ", ".join(f"{key} = {write(value)}" for key, value in values.items())
    return f"data = {{{pairs}}}" if options else f"data = {write(data)}"


def without_corrupt(images: ImageSet) -> ImageSet:
    """The readable images; the others are listed in `left_out`."""
    good = check_files(images).problems == ""
    if good.all():
        return images
    return replace(images.select(good), left_out=(*images.left_out, *images.ids[~good].tolist()))


def _measure(image: Image.Image) -> tuple[int, int, str]:
    """The width, height, and hash of the pixels."""
    return image.width, image.height, content_hash(f"{image.width}x{image.height}", image.tobytes())


def _quantiles(values: Any) -> Quantiles:
    if not len(values):
        return (0.0, 0.0, 0.0)
    return (float(min(values)), float(np.median(values)), float(max(values)))
