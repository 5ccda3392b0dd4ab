"""Where the classes lie, in two dimensions, and which side of a split each is on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from oodml.shift.splits import Split
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class ClassMap:
    """Classes as points.

    classes: [n]. points: [n 2], centred, of unit largest extent. explained: the share of the
    class means' variance that the two axes show. samples: [n] an image id of each class.
    """

    classes: tuple[str, ...]
    points: Float[np.ndarray, "n 2"]
    explained: float
    samples: tuple[str, ...]
    superclasses: tuple[str, ...] | None


def class_map(features: VectorSet, most: int = 2000, seed: int = 0) -> ClassMap:
    """The class means of frozen features on their two first principal axes.

    One fixed map for all splits, so that only the colours change from split to split. The sample
    of a class is the image nearest its mean. At most `most` classes, drawn at random.
    """
    means = features.class_means()
    centred = means - means.mean(axis=0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    points = centred @ axes[:2].T
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((scale**2).sum())
    kept = np.arange(len(means))
    if len(kept) > most:
        kept = np.sort(np.random.default_rng(seed).choice(kept, most, replace=False))
    samples = _nearest_to_mean(features, means)
    names = np.asarray(features.class_names)
    return ClassMap(
        tuple(names[kept].tolist()),
        points[kept] / max(float(np.abs(points).max()), 1e-12),
        float((scale[:2] ** 2).sum()) / total if total else 0.0,
        tuple(features.ids[samples[kept]].tolist()),
        _superclasses(features, samples[kept]),
    )


def sides(found: ClassMap, split: Split) -> list[str]:
    """The side of each class of a map: "train", "test", or "" where the split lacks it."""
    side = dict.fromkeys(split.train, "train") | dict.fromkeys(split.test, "test")
    return [side.get(name, "") for name in found.classes]


def _nearest_to_mean(
    features: VectorSet, means: Float[np.ndarray, "classes d"]
) -> Int[np.ndarray, " classes"]:
    far = np.linalg.norm(features.vectors - means[features.labels], axis=1)
    order = np.lexsort((far, features.labels))
    first = np.unique(features.labels[order], return_index=True)[1]
    return np.asarray(order[first])


def _superclasses(features: VectorSet, rows: Int[np.ndarray, " n"]) -> tuple[str, ...] | None:
    if features.superclasses is None:
        return None
    return tuple(features.superclasses[rows].tolist())
