"""A map of the classes in two dimensions, with the side of a split that each is on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from oodml.shift.splits import Split
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class ClassMap:
    """Classes as points.

    Attributes:
        classes: [n] the names of the classes.
        points: [n 2] their positions, centered and scaled to [-1, 1].
        explained: the share of the variance of the class means on the two axes.
        samples: [n] the id of an image of each class.
        superclasses: [n] the superclass of each class, or None.
    """

    classes: tuple[str, ...]
    points: Float[np.ndarray, "n 2"]
    explained: float
    samples: tuple[str, ...]
    superclasses: tuple[str, ...] | None


def class_map(features: VectorSet, max_classes: int = 2000, seed: int = 0) -> ClassMap:
    """Project the class means of pretrained features on their first two principal axes.

    The map is the same for all splits, so only the sides change from split to split. The sample
    of a class is the image closest to its mean. At most `max_classes` classes are drawn, selected
    at random.
    """
    means = features.class_means()
    centered = means - means.mean(axis=0)
    _, scale, axes = np.linalg.svd(centered, full_matrices=False)
    points = centered @ axes[:2].T
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((scale**2).sum())
    drawn = np.arange(len(means))
    if len(drawn) > max_classes:
        drawn = np.sort(np.random.default_rng(seed).choice(drawn, max_classes, replace=False))
    samples = _nearest_to_mean(features, means)
    names, groups = np.asarray(features.class_names), features.superclasses
    return ClassMap(
        tuple(names[drawn].tolist()),
        points[drawn] / max(float(np.abs(points).max()), 1e-12),
        float((scale[:2] ** 2).sum()) / total if total else 0.0,
        tuple(features.ids[samples[drawn]].tolist()),
        None if groups is None else tuple(groups[samples[drawn]].tolist()),
    )


def class_sides(drawn: ClassMap, split: Split) -> list[str]:
    """The side of each class of a map: "train", "test", or "" if it is not in the split."""
    side = dict.fromkeys(split.train, "train") | dict.fromkeys(split.test, "test")
    return [side.get(name, "") for name in drawn.classes]


def _nearest_to_mean(
    features: VectorSet, means: Float[np.ndarray, "classes d"]
) -> Int[np.ndarray, " classes"]:
    distance = np.linalg.norm(features.vectors - means[features.labels], axis=1)
    order = np.lexsort((distance, features.labels))
    first = np.unique(features.labels[order], return_index=True)[1]
    return np.asarray(order[first])
