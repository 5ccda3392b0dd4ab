"""What a data set promises: labelled images, the same every time."""

import numpy as np

from oodml.contract.promise import Advice, Broken, Make, NotPromised, Promise, explained
from oodml.images.image_set import ImageSet

READ = 64
"""Images that are read, evenly over the set."""


def opened(make: Make) -> ImageSet:
    """The images."""
    found = make()
    if not isinstance(found, ImageSet):
        raise Broken(f"it gives a {type(found).__name__}", "Return oodml.ImageSet(name, ids, "
                     "classes, root=… or pixels=…)")  # fmt: skip
    return found


def it_has_classes(make: Make) -> None:
    """There are two classes or more, and most have two images or more."""
    images = opened(make)
    _, counts = np.unique(images.classes, return_counts=True)
    if len(counts) < 2:
        raise Broken(f"{len(counts)} classes", "Give the class of each image in `classes`")
    small = int((counts < 2).sum())
    if 2 * small > len(counts):
        raise Broken(f"{small} of {len(counts)} classes have one image", "Such a class has no "
                     "pair: leave it out, or give coarser classes")  # fmt: skip


def images_can_be_read(make: Make) -> None:
    """Images can be read as RGB."""
    images = opened(make)
    for row in np.unique(np.linspace(0, len(images) - 1, READ).astype(int)).tolist():
        image = images.read(row)
        if image.mode != "RGB" or min(image.size) < 1:
            raise Broken(f"{images.ids[row]}: {image.mode} {image.size}", "read() gives RGB")


def names_are_texts(make: Make) -> None:
    """Ids, classes and superclasses are texts."""
    images = opened(make)
    for name in ("ids", "classes", "superclasses"):
        column = getattr(images, name)
        if column is not None and column.dtype.kind != "U":
            raise Broken(f"{name} are {column.dtype}", "Make them np.array of str: they are names "
                         "in split files")  # fmt: skip


def it_is_the_same_twice(make: Make) -> None:
    """Opened twice it is the same: its fingerprint and order stay."""
    one, other = opened(make), opened(make)
    if one.fingerprint != other.fingerprint:
        raise Broken("two fingerprints", "Draw nothing; read the same files")
    if not np.array_equal(one.ids, other.ids):
        raise Broken("two orders", "Sort the files that are found")


def superclasses_hold_several_classes(make: Make) -> None:
    """Where there are superclasses, some hold several classes."""
    images = opened(make)
    if images.superclasses is None:
        raise NotPromised("it has no superclasses")
    if len(set(images.superclass_of.values())) == len(images.class_names):
        raise Advice("each class is its own superclass", "Leave superclasses out (None)")


def options_are_explained(make: Make) -> None:
    """Its docstring says what its options mean."""
    explained(getattr(make, "thing", make))


PROMISES: tuple[Promise, ...] = (
    it_has_classes,
    images_can_be_read,
    names_are_texts,
    it_is_the_same_twice,
    superclasses_hold_several_classes,
    options_are_explained,
)
