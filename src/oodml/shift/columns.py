"""Splits by columns of a table of images: groups that stay on one side, and time."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from oodml.arrays import Names
from oodml.errors import error_at, unknown
from oodml.images.image_set import ImageSet
from oodml.shift.distances import class_mean_fid
from oodml.shift.measures import progression_measure
from oodml.shift.splits import Progression, split_at
from oodml.vectors import VectorSet


def class_units(column: str, images: ImageSet | None) -> dict[str, str]:
    """The unit of each class: classes that share a group, directly or through others, are one."""
    images, values = _column("group", column, images)
    names = images.class_names
    groups, rows = np.unique(values, return_inverse=True)
    edges = np.stack([images.labels, len(names) + rows], axis=1)
    labels = connect(edges, len(names) + len(groups))[: len(names)].tolist()
    first: dict[int, str] = {}
    units = {n: first.setdefault(label, n) for n, label in zip(names, labels, strict=True)}
    if (count := len(set(units.values()))) < 4:
        raise error_at(
            "splits.group",
            f"classes that share values of {column!r} stay together, which joins the {len(names)} "
            f"classes to {count}; at least 4 are needed, 2 to train and 2 to test",
            column,
        )
    return units


def connect(edges: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """[n] the connected component of each node of a graph with edges [e 2]."""
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def whole_units(train: Sequence[str], units: Mapping[str, str]) -> list[str]:
    """The classes to start training from: each unit is on the side of most of its classes."""
    inside, sizes = Counter(units[name] for name in train), Counter(units.values())
    chosen = {unit for unit, size in sizes.items() if 2 * inside[unit] > size}
    if min(len(chosen), len(sizes) - len(chosen)) < 2:
        raise error_at(
            "splits.group",
            f"{len(chosen)} of {len(sizes)} units of classes are on the training side; each side "
            "needs at least 2. Set train_classes",
        )
    return [name for name, unit in units.items() if unit in chosen]


def time_progression(
    vectors: VectorSet, column: str, images: ImageSet | None, n_splits: int | None, measure: str
) -> Progression:
    """Train on the earlier half of the classes, and test on parts of the later half.

    `column` has dates or numbers; a class is as old as its first image. The parts of at least two
    classes are in the order of time, as many as possible if `n_splits` is None.
    """
    images, values = _column("time", column, images)
    first = np.full(len(images.class_names), np.inf)
    np.minimum.at(first, images.labels, _times(column, values))
    order = np.argsort(first, kind="stable")
    train, later = order[: len(order) // 2], order[len(order) // 2 :]
    parts = np.array_split(later, min(n_splits or len(later), len(later) // 2))
    means = vectors.subset(images.class_names).class_means()
    shift = progression_measure(measure, means, class_mean_fid(means))
    names = images.class_names
    splits = (split_at(i, names, train, test, shift(train, test)) for i, test in enumerate(parts))
    return Progression(tuple(splits), "time", measure, {"time": column})


def _column(key: str, name: str, images: ImageSet | None) -> tuple[ImageSet, Names]:
    if images is None or name not in images.attributes:
        raise unknown("column", name, () if images is None else images.attributes, f"splits.{key}")
    values = images.attributes[name]
    missing = np.flatnonzero(values == "")
    if len(missing):
        image = str(images.ids[missing[0]])
        raise error_at(f"splits.{key}", f"column {name!r} has no value for image {image!r}", name)
    return images, values


def _times(column: str, values: Names) -> NDArray[np.float64]:
    """Numbers, or dates as nanoseconds."""
    numbers = pd.to_numeric(pd.Series(values), errors="coerce")
    if numbers.notna().all():
        return numbers.to_numpy(float)
    try:
        dates = pd.to_datetime(pd.Series(values), format="ISO8601", utc=True)
    except (ValueError, TypeError) as error:
        problem = f"column {column!r} has values that are neither numbers nor ISO dates: {error}"
        raise error_at("splits.time", problem, column) from error
    return np.asarray(dates.astype("int64"), dtype=np.float64)
