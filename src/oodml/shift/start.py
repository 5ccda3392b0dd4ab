"""The train classes that a progression starts from."""

from collections.abc import Iterable, Mapping

from oodml.arrays import Names
from oodml.errors import OodmlError, unknown


def standard_train_classes(classes: Iterable[str]) -> list[str]:
    """The first half of the sorted class names, the customary train classes."""
    ordered = sorted(str(name) for name in classes)
    return ordered[: len(ordered) // 2]


def superclass_train_classes(superclass_of: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """The classes of the wanted superclasses, sorted."""
    chosen, known = set(wanted), set(superclass_of.values())
    for name in sorted(chosen - known):
        raise unknown("superclass", name, known)
    return sorted(name for name, superclass in superclass_of.items() if superclass in chosen)


def partition_train_classes(classes: Names, partition: Names | None) -> list[str] | None:
    """The classes of a dataset's own "train" images, sorted; None if it has no such partition."""
    if partition is None or not (partition == "train").any():
        return None
    inside = set(classes[partition == "train"].tolist())
    outside = set(classes[partition != "train"].tolist())
    for name in sorted(inside & outside):
        raise OodmlError(
            f"class {name!r} has both train and other images in the dataset's own partition, so "
            "the partition does not split classes",
            given=name,
        )
    return sorted(inside)
