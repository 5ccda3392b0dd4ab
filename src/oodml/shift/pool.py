"""The classes of two vector sets in one list, so that they can be resampled and permuted."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.shift.class_mean_fid import Positions
from oodml.shift.distances import Matrix
from oodml.vectors import VectorSet


class Pool:
    """Class means and images of two vector sets.

    A class name that occurs in both sets counts as two classes.

    Args:
        a, b: the two sets, with at least two classes each.
        max_images: the number of images per set to use; each class keeps at least one.

    Attributes:
        first, second: the positions of the classes of `a` and `b`.
        means: [c d] class means.
        vectors: [n d] the chosen images, sorted by class.
        counts, starts: [c] the number of images of each class and the row where they start.
    """

    def __init__(self, a: VectorSet, b: VectorSet, max_images: int, seed: int) -> None:
        for name, vectors in (("first", a), ("second", b)):
            if len(vectors.class_names) < 2:
                problem = (
                    f"the {name} set has {len(vectors.class_names)} classes; at least 2 are needed"
                )
                raise OodmlError(problem, f"{name} set", len(vectors.class_names))
        n_first = len(a.class_names)
        self.means: Matrix = np.concatenate([a.class_means(), b.class_means()])
        self.first: Positions = np.arange(n_first)
        self.second: Positions = np.arange(n_first, len(self.means))
        self.seed = seed
        self.chosen = tuple(_choose_rows(vectors, max_images, seed) for vectors in (a, b))
        parts = [vectors.vectors[rows] for vectors, rows in zip((a, b), self.chosen, strict=True)]
        labels = np.concatenate([a.labels[self.chosen[0]], b.labels[self.chosen[1]] + n_first])
        # Sorted by class, so that the images of a class are a slice.
        order = np.argsort(labels, kind="stable")
        self.vectors: Matrix = np.concatenate(parts).astype(np.float64)[order]
        self.counts = np.bincount(labels, minlength=len(self.means))
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])

    @cached_property
    def size_note(self) -> str:
        """The number of images used, for the note of a measure."""
        return f"of {len(self.chosen[0])} and {len(self.chosen[1])} images"

    @cached_property
    def main_axes(self) -> Matrix:
        """The images on the principal axes that contain 99.9% of their variance: [n k]."""
        centered = self.vectors - self.vectors.mean(axis=0)
        variances, axes = np.linalg.eigh(centered.T @ centered)
        left_out = np.cumsum(np.clip(variances, 0, None)) <= 1e-3 * variances.sum()
        return np.asarray(centered @ axes[:, ~left_out])

    def rows(self, classes: Positions) -> NDArray[np.int64]:
        """The rows of `vectors` of some classes; a repeated class repeats its rows."""
        return np.concatenate(
            [np.arange(self.starts[c], self.starts[c] + self.counts[c]) for c in classes]
        )


def _choose_rows(vectors: VectorSet, most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` rows, independent of their order, with at least one per class."""
    most = max(most, len(vectors.class_names))
    if len(vectors) <= most:
        return np.arange(len(vectors))
    by_id = np.argsort(vectors.ids, kind="stable")
    shuffled = by_id[np.random.default_rng(seed).permutation(len(vectors))]
    rank = np.zeros(len(vectors), dtype=np.int64)
    seen = np.zeros(len(vectors.class_names), dtype=np.int64)
    for row in shuffled:
        rank[row] = seen[vectors.labels[row]]
        seen[vectors.labels[row]] += 1
    return np.sort(shuffled[np.argsort(rank[shuffled], kind="stable")][:most])
