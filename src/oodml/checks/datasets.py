"""Requirements on a dataset: labeled images, the same every time it is opened."""

import numpy as np

from oodml.checks.requirement import Advice, Make, Violation, require, skip_unless
from oodml.images.fingerprint import fingerprint
from oodml.images.image_set import ImageSet

N_READ = 64
"""Number of images that are read, evenly spaced over the dataset."""


def open_dataset(make: Make) -> ImageSet:
    images = make()
    if not isinstance(images, ImageSet):
        remedy = "Return oodml.ImageSet(name, ids, classes, root=… or pixels=…)"
        raise Violation(f"it returns a {type(images).__name__}", remedy)
    return images


def check_classes(make: Make) -> None:
    """There are two classes or more, and most have two images or more."""
    _, counts = np.unique(open_dataset(make).classes, return_counts=True)
    require(len(counts) >= 2, f"{len(counts)} classes", "Set the class of each image in `classes`")
    small, remedy = int((counts < 2).sum()), "Leave them out or use coarser classes"
    problem = f"{small} of {len(counts)} classes have one image, and so no positive pairs"
    require(2 * small <= len(counts), problem, remedy)


def check_reading(make: Make) -> None:
    """Images can be read as RGB."""
    images = open_dataset(make)
    for row in np.unique(np.linspace(0, len(images) - 1, N_READ).astype(int)).tolist():
        image = images.read(row)
        is_rgb = image.mode == "RGB" and min(image.size) > 0
        require(is_rgb, f"{images.ids[row]}: {image.mode} {image.size}", "read() returns RGB")


def check_strings(make: Make) -> None:
    """Ids, classes, and superclasses are strings."""
    images = open_dataset(make)
    for name in ("ids", "classes", "superclasses"):
        column = getattr(images, name)
        remedy = "Pass a numpy array of str: split files refer to these names"
        is_text = column is None or column.dtype.kind == "U"
        require(is_text, f"{name} are {getattr(column, 'dtype', None)}", remedy)


def check_determinism(make: Make) -> None:
    """Its content and order are the same every time it is opened."""
    first, second = open_dataset(make), open_dataset(make)
    same = fingerprint(first) == fingerprint(second)
    require(same, "two fingerprints", "Use no randomness, and read the same files")
    require(np.array_equal(first.ids, second.ids), "two orders", "Sort the list of files")


def check_superclasses(make: Make) -> None:
    """Superclasses, if there are any, contain several classes."""
    images = open_dataset(make)
    skip_unless(images.superclasses is not None, "it has no superclasses")
    if len(set(images.superclass_of.values())) == len(images.class_names):
        raise Advice("each class is its own superclass", "Leave superclasses out (None)")


BASIC = (check_classes,)
