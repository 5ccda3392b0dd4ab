"""Where a progression starts: which classes train before anything is swapped."""

from collections.abc import Iterable, Mapping

from oodml.arrays import Names
from oodml.errors import OodmlError, unknown


def standard_train(classes: Iterable[str]) -> list[str]:
    """The first half of the sorted class names, which the field trains on by custom."""
    ordered = sorted(str(name) for name in classes)
    return ordered[: len(ordered) // 2]


def train_of_superclasses(superclass_of: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """The classes of some superclasses, sorted."""
    chosen, known = set(wanted), set(superclass_of.values())
    for name in sorted(chosen - known):
        raise unknown("superclass", name, known)
    return sorted(name for name, superclass in superclass_of.items() if superclass in chosen)


def train_of_partition(classes: Names, partition: Names | None) -> list[str] | None:
    """The classes of a collection's own "train" images [n], sorted; None if it has none.

    `OodmlError` if a class has images in the train part and outside it.
    """
    if partition is None or not (partition == "train").any():
        return None
    inside = set(classes[partition == "train"].tolist())
    outside = set(classes[partition != "train"].tolist())
    for name in sorted(inside & outside):
        raise OodmlError(
            f"class {name!r} has train and other images in the data's own partition, which "
            "therefore is no split of classes"
        )
    return sorted(inside)
