"""The classes of two sets of vectors in one list, so that they can be drawn and dealt anew."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.shift.distances import Matrix
from oodml.shift.sides import Positions
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Measure:
    """A measure of shift as a function of the positions of the classes on either side.

    approximate: the same, quicker, for the many draws of an interval; None is `value`.
    slow: whether fewer draws must do.
    """

    value: Callable[[Positions, Positions], float]
    note: str
    slow: bool = False
    approximate: Callable[[Positions, Positions], float] | None = None


class Pool:
    """Class means and images of the sets a and b.

    A class name that both sets have counts as two classes. first, second: the positions of a's
    and b's classes. seed: of the images drawn where a set has more than `max_images`, and of
    whatever a measure draws.
    """

    def __init__(self, a: VectorSet, b: VectorSet, max_images: int, seed: int) -> None:
        for name, vectors in (("first", a), ("second", b)):
            if len(vectors.class_names) < 2:
                raise OodmlError(
                    f"the {name} set has {len(vectors.class_names)} classes; 2 are needed at least"
                )
        n_first = len(a.class_names)
        self.means: Matrix = np.concatenate([a.class_means(), b.class_means()])
        self.first: Positions = np.arange(n_first)
        self.second: Positions = np.arange(n_first, len(self.means))
        self.seed = seed
        self.kept = tuple(_kept(vectors, max_images, seed) for vectors in (a, b))
        drawn = [vectors.vectors[rows] for vectors, rows in zip((a, b), self.kept, strict=True)]
        self._labels = np.concatenate([a.labels[self.kept[0]], b.labels[self.kept[1]] + n_first])
        # Sorted by class, so that the images of a class are a slice.
        order = np.argsort(self._labels, kind="stable")
        self.vectors: Matrix = np.concatenate(drawn).astype(np.float64)[order]
        self.counts = np.bincount(self._labels, minlength=len(self.means))
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])

    @cached_property
    def size_note(self) -> str:
        """How many images are used."""
        return f"of {len(self.kept[0])} and {len(self.kept[1])} images"

    @cached_property
    def main_axes(self) -> Matrix:
        """[n k] the images along the principal axes that hold 99.9% of their variance."""
        centred = self.vectors - self.vectors.mean(axis=0)
        variances, axes = np.linalg.eigh(centred.T @ centred)
        left_out = np.cumsum(np.clip(variances, 0, None)) <= 1e-3 * variances.sum()
        return np.asarray(centred @ axes[:, ~left_out])

    def rows(self, classes: Positions) -> NDArray[np.int64]:
        """The rows of `vectors` of some classes, as often as they are named."""
        return np.concatenate(
            [np.arange(self.starts[c], self.starts[c] + self.counts[c]) for c in classes]
        )


def _kept(vectors: VectorSet, most: int, seed: int) -> NDArray[np.int64]:
    """At most so many rows, whatever their order, but one of every class."""
    most = max(most, len(vectors.class_names))
    if len(vectors) <= most:
        return np.arange(len(vectors))
    by_id = np.argsort(vectors.ids, kind="stable")
    shuffled = by_id[np.random.default_rng(seed).permutation(len(vectors))]
    place = np.zeros(len(vectors), dtype=np.int64)
    seen = np.zeros(len(vectors.class_names), dtype=np.int64)
    for row in shuffled:
        place[row] = seen[vectors.labels[row]]
        seen[vectors.labels[row]] += 1
    return np.sort(shuffled[np.argsort(place[shuffled], kind="stable")][:most])
