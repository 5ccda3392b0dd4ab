"""Measures of shift between the images of two sides."""

import numpy as np

from oodml.shift.class_mean_fid import Positions
from oodml.shift.distances import Matrix, frechet_distance
from oodml.shift.measures import Measure, register
from oodml.shift.pool import Pool

_DIRECTIONS = 128
_FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_BLOCK = 1024


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
    """Root mean square over the columns of the Wasserstein-2 distance of each."""
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
