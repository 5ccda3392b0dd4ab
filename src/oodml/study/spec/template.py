"""A first study file for a user's own images, with a word on every line."""

import os
from pathlib import Path

import numpy as np

from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

SHOTS = (2, 5)
QUERIES = 2
"""Images of a class that must be left to retrieve when some are labelled."""

TEXT = """\
# A study of {name}: {images} images of {classes} classes{groups}.
# Run it:      oodml study run {file} --out results
# What it says: oodml report results
data = "{data}"
seeds = [0, 1, 2]       # every method is trained once for each
shots = {shots}{shots_why}
episodes = 10           # few-shot episodes a split
# search = 20           # choose among listed values first: so many trials of each method

# How classes are divided into train and test, more and more unlike each other.
# [splits]
# file = "splits.json"  # splits that exist already; by default they are built

[model]
backbone = "lite0"      # or any network of timm; "small" with mode = "finetune" trains from scratch
mode = "head"           # "head": one layer on cached features; "finetune": the whole network
dim = 128               # of the embedding

[train]
epochs = 40             # at the most; the best one is chosen on validation classes
batch_size = {batch}

# What is compared; options go below a method's name. A list of values makes a range.
[methods.margin]
[methods.multisimilarity]
[methods.proxy_anchor]
[methods.arcface]
[methods.frozen]        # no training, the baseline
"""


def study_text(data: str, file: Path) -> str:
    """The text of a study file at `file` for a folder or table of images, or a data set's name.

    Shots and batch size fit the data. Raises `OodmlError` if there is too little of it.
    """
    images = open_images(data)
    counts = np.unique(images.labels, return_counts=True)[1]
    if len(counts) < 8:
        raise OodmlError(f"{data}: {len(counts)} classes; a study needs at least 8 to divide")
    shots = [n for n in SHOTS if n + QUERIES <= counts.min()]
    few = f"the smallest class has {counts.min()} images"
    return TEXT.format(
        name=images.name,
        images=len(images),
        classes=len(counts),
        groups=_groups(images),
        file=file.name,
        data=_from(file, data),
        shots=shots,
        shots_why="         # labelled images of a new class"
        if shots
        else f"              # {few}",
        batch=min(112, 2 * (len(counts) // 4)),
    )


def _groups(images: ImageSet) -> str:
    found = len(set(images.superclass_of.values()))
    return f" in {found} superclasses" if found else ""


def _from(file: Path, data: str) -> str:
    """How the study file names the data: a path from its own folder, or a data set's name."""
    path = Path(data).expanduser()
    if not path.exists():
        return data
    return Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix()
