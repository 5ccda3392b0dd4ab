"""Measures of shift between the images of two sides."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.shift.distances import Matrix, Positions, frechet_distance
from oodml.shift.measures import Measure, register
from oodml.vectors import VectorSet

_DIRECTIONS = 128
_FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_BLOCK = 1024


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


@register("images")
def fid_images(pool: Pool) -> Measure:
    """FID of the images; biased upward by about a constant over the number of images."""

    def fid(vectors: Matrix, first: Positions, second: Positions) -> float:
        return frechet_distance(vectors[pool.rows(first)], vectors[pool.rows(second)])

    return Measure(
        lambda first, second: fid(pool.vectors, first, second),
        f"{pool.size_note}; biased upward by about c/n",
        slow=True,
        approximate=lambda first, second: fid(pool.main_axes, first, second),
    )


@register("images", by_default=False)
def fid_images_extrapolated(pool: Pool) -> Measure:
    """FID of the images, extrapolated to infinitely many (Chong & Forsyth 2020)."""

    def limit(vectors: Matrix, first: Positions, second: Positions) -> float:
        generator = np.random.default_rng(pool.seed)
        rows = pool.rows(first), pool.rows(second)
        distances = []
        for fraction in _FRACTIONS:
            a, b = (
                generator.choice(side, size=max(2, round(fraction * len(side))), replace=False)
                for side in rows
            )
            distances.append(frechet_distance(vectors[a], vectors[b]))
        return float(np.polyfit(1 / np.array(_FRACTIONS), distances, 1)[1])

    return Measure(
        lambda first, second: limit(pool.vectors, first, second),
        f"{pool.size_note}, extrapolated to infinitely many",
        slow=True,
        approximate=lambda first, second: limit(pool.main_axes, first, second),
    )


@register("images")
def kid(pool: Pool) -> Measure:
    """Unbiased squared MMD under the kernel (x·y/d + 1)³ (Bińkowski et al. 2018)."""
    sums = _kernel_sums(pool)
    counts = pool.counts.astype(np.float64)
    pairs = np.outer(counts, counts) - np.diag(counts)

    def within(weights: Matrix) -> float:
        return float(weights @ sums @ weights) / float(weights @ pairs @ weights)

    def value(first: Positions, second: Positions) -> float:
        a, b = (np.bincount(side, minlength=len(counts)).astype(float) for side in (first, second))
        across = float(a @ sums @ b) / float((a * counts).sum() * (b * counts).sum())
        return within(a) + within(b) - 2 * across

    return Measure(value, f"{pool.size_note}; unbiased, so it can be negative")


@register("images")
def sliced_wasserstein(pool: Pool) -> Measure:
    """Root mean square over random directions of the Wasserstein-2 distance along each."""
    directions = np.random.default_rng(pool.seed).normal(size=(pool.vectors.shape[1], _DIRECTIONS))
    projected = pool.vectors @ (directions / np.linalg.norm(directions, axis=0))

    def value(first: Positions, second: Positions) -> float:
        return _wasserstein(projected[pool.rows(first)], projected[pool.rows(second)])

    return Measure(value, f"{pool.size_note}, {_DIRECTIONS} directions", slow=True)


def _wasserstein(a: Matrix, b: Matrix) -> float:
    count = max(len(a), len(b))
    quantiles = (np.arange(count) + 0.5) / count
    a, b = (
        np.sort(side, axis=0)[np.minimum((quantiles * len(side)).astype(int), len(side) - 1)]
        for side in (a, b)
    )
    return float(np.sqrt(np.mean((a - b) ** 2)))


def _kernel_sums(pool: Pool) -> Matrix:
    """Sums of the kernel over image pairs of two classes, without self-pairs: [c c]."""
    rows = pool.vectors
    dim = rows.shape[1]
    by_row = np.empty((len(rows), len(pool.means)))
    for start in range(0, len(rows), _BLOCK):
        kernel = (rows[start : start + _BLOCK] @ rows.T / dim + 1) ** 3
        own = np.arange(len(kernel))
        kernel[own, start + own] = 0
        by_row[start : start + _BLOCK] = np.add.reduceat(kernel, pool.starts, axis=1)
    return np.asarray(np.add.reduceat(by_row, pool.starts, axis=0))
