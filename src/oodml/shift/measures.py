"""Measures of shift, and a report of several measures with their uncertainty.

To add a measure, write a function with the decorator `register`. `oodml shift` then reports it,
and one that needs only class means can also drive a progression (`SplitSettings.measure`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Num
from numpy.typing import NDArray

from oodml.errors import OodmlError, unknown
from oodml.progress import Progress
from oodml.shift.distances import (
    ClassMeanFid,
    CovarianceFid,
    GramFid,
    Matrix,
    Positions,
    as_sets,
    frechet_distance,
)
from oodml.vectors import VectorSet

STANDARD_MEASURE = "fid_class_means"  # the measure of the published progressions
Shift = Callable[[Positions, Positions], float]
"""The shift between two sides, each given by the positions of its classes."""
Needs = Literal["class means", "images"]


@dataclass(frozen=True)
class Measure:
    """A measure, applied to given data."""

    value: Shift
    note: str
    slow: bool = False
    approximate: Shift | None = None


@dataclass(frozen=True)
class RegisteredMeasure:
    """A measure in the registry; `make` takes class means [c d] or a `Pool`."""

    name: str
    make: Callable[[Any], Measure]
    needs: Needs
    by_default: bool


MEASURES: dict[str, RegisteredMeasure] = {}


def register(
    needs: Needs, by_default: bool = True
) -> Callable[[Callable[[Any], Measure]], Callable[[Any], Measure]]:
    """A decorator that adds a measure to the registry under the function's name."""

    def add(function: Callable[[Any], Measure]) -> Callable[[Any], Measure]:
        name = function.__name__
        MEASURES[name] = RegisteredMeasure(name, function, needs, by_default)
        return function

    return add


def find_measure(name: str, needs: Needs | None = None) -> RegisteredMeasure:
    """The measure with a given name."""
    known = [one.name for one in MEASURES.values() if needs in (None, one.needs)]
    if name not in known:
        raise unknown(f"measure of {needs}" if needs else "measure", name, known)
    return MEASURES[name]


def class_mean_shift(
    first: Num[np.ndarray, "n d"], second: Num[np.ndarray, "m d"], name: str = STANDARD_MEASURE
) -> float:
    """The shift between two sets of class means, such as cluster centers of unlabeled images."""
    a, b = as_sets(first, second)
    measure = find_measure(name, "class means").make(np.concatenate([a, b]))
    return measure.value(np.arange(len(a)), np.arange(len(a), len(a) + len(b)))


def progression_measure(name: str, means: Num[np.ndarray, "n d"], fid: ClassMeanFid) -> Shift:
    """The measure of a progression; the standard one reuses `fid` of the same class means."""
    measure = find_measure(name, "class means")
    return fid.shift if name == STANDARD_MEASURE else measure.make(np.asarray(means, float)).value


@register("class means")
def fid_class_means(means: Float[np.ndarray, "c d"]) -> Measure:
    """FID of the class means; the measure of the published progressions."""
    small = len(means) <= max(2 * means.shape[1], 500)
    fid: ClassMeanFid = (GramFid if small else CovarianceFid)(means)

    def value(first: Positions, second: Positions) -> float:
        # A covariance is updated by the classes that moved, so none can occur twice.
        return fid.shift(*((first, second) if small else map(np.unique, (first, second))))

    return Measure(value, "of class means; depends on the number of classes")


@register("class means")
def nearest_class(means: Float[np.ndarray, "c d"]) -> Measure:
    """Mean distance from a class mean of B to the nearest of A, relative to that within A.

    The value is 1 if the classes of B are as close to A as the classes of A are to each other, and
    NaN if the class means of A are all equal.
    """
    norms = np.einsum("cd,cd->c", means, means)
    squares = norms[:, None] + norms[None, :] - 2 * means @ means.T
    distances: Matrix = np.sqrt(np.clip(squares, 0, None))
    np.fill_diagonal(distances, np.inf)

    def value(first: Positions, second: Positions) -> float:
        among = np.unique(first)
        own = distances[np.ix_(among, among)].min(axis=1).mean()
        across = distances[np.ix_(among, second)].min(axis=0).mean()
        return float(across / own) if own else float("nan")

    return Measure(value, "mean distance from B's classes to the nearest of A, relative to A's own")


_DIRECTIONS = 128
_FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_BLOCK = 1024


class Pool:
    """Class means and images of two vector sets with at least two classes each.

    A class name that occurs in both sets counts as two classes. At most `max_images` images per
    set are used; each class keeps at least one.

    Attributes:
        first, second: the positions of the classes of `a` and `b` in the class `means` [c d].
        vectors: [n d] the images, sorted by class; `chosen` are their rows in both sets.
        counts, starts: [c] the number of images of each class and the row where they start.
    """

    def __init__(self, a: VectorSet, b: VectorSet, max_images: int, seed: int) -> None:
        for name, vectors in (("first", a), ("second", b)):
            count = len(vectors.class_names)
            if count < 2:
                problem = f"the {name} set has {count} classes; at least 2 are needed"
                raise OodmlError(problem, f"{name} set", count)
        n_first = len(a.class_names)
        self.means: Matrix = np.concatenate([a.class_means(), b.class_means()])
        self.first: Positions = np.arange(n_first)
        self.second: Positions = np.arange(n_first, len(self.means))
        self.seed = seed
        self.chosen = chosen = [_choose_rows(one, max_images, seed) for one in (a, b)]
        self.note = f"of {len(chosen[0])} and {len(chosen[1])} images"
        labels = np.concatenate([a.labels[chosen[0]], b.labels[chosen[1]] + n_first])
        # Sorted by class, so that the images of a class are a slice.
        order = np.argsort(labels, kind="stable")
        rows = np.concatenate([a.vectors[chosen[0]], b.vectors[chosen[1]]])
        self.vectors: Matrix = rows.astype(np.float64)[order]
        self.counts = np.bincount(labels, minlength=len(self.means))
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])

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

    def measure(self, shift: Callable[[Matrix, Matrix], float], note: str) -> Measure:
        """A slow measure of two sets of images; resamples use their main axes."""

        def value(first: Positions, second: Positions) -> float:
            return shift(self.vectors[self.rows(first)], self.vectors[self.rows(second)])

        def approximate(first: Positions, second: Positions) -> float:
            return shift(self.main_axes[self.rows(first)], self.main_axes[self.rows(second)])

        return Measure(value, f"{self.note}{note}", True, approximate)


def _choose_rows(vectors: VectorSet, most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` rows, independent of their order, with at least one per class."""
    most = max(most, len(vectors.class_names))
    if len(vectors) <= most:
        return np.arange(len(vectors))
    by_id = np.argsort(vectors.ids, kind="stable")
    shuffled = by_id[np.random.default_rng(seed).permutation(len(vectors))]
    rank = pd.Series(vectors.labels[shuffled]).groupby(vectors.labels[shuffled]).cumcount()
    return np.sort(shuffled[np.argsort(rank.to_numpy(), kind="stable")][:most])


@register("images")
def fid_images(pool: Pool) -> Measure:
    """FID of the images; biased upward by about a constant over the number of images."""
    return pool.measure(frechet_distance, "; biased upward by about c/n")


@register("images", by_default=False)
def fid_images_extrapolated(pool: Pool) -> Measure:
    """FID of the images, extrapolated to infinitely many (Chong & Forsyth 2020)."""

    def limit(a: Matrix, b: Matrix) -> float:
        generator = np.random.default_rng(pool.seed)
        distances = []
        for fraction in _FRACTIONS:
            rows = [
                generator.choice(len(side), size=max(2, round(fraction * len(side))), replace=False)
                for side in (a, b)
            ]
            distances.append(frechet_distance(a[rows[0]], b[rows[1]]))
        return float(np.polyfit(1 / np.array(_FRACTIONS), distances, 1)[1])

    return pool.measure(limit, ", extrapolated to infinitely many")


@register("images")
def kid(pool: Pool) -> Measure:
    """Unbiased squared MMD under the kernel (x·y/d + 1)³ (Bińkowski et al. 2018)."""
    rows, counts = pool.vectors, pool.counts.astype(np.float64)
    by_row = np.empty((len(rows), len(counts)))
    for start in range(0, len(rows), _BLOCK):
        kernel = (rows[start : start + _BLOCK] @ rows.T / rows.shape[1] + 1) ** 3
        own = np.arange(len(kernel))
        kernel[own, start + own] = 0
        by_row[start : start + _BLOCK] = np.add.reduceat(kernel, pool.starts, axis=1)
    # Sums of the kernel over image pairs of two classes, without self-pairs: [c c]
    sums = np.asarray(np.add.reduceat(by_row, pool.starts, axis=0))
    pairs = np.outer(counts, counts) - np.diag(counts)

    def within(weights: Matrix) -> float:
        return float(weights @ sums @ weights) / float(weights @ pairs @ weights)

    def value(first: Positions, second: Positions) -> float:
        a, b = (np.bincount(side, minlength=len(counts)).astype(float) for side in (first, second))
        across = float(a @ sums @ b) / float((a * counts).sum() * (b * counts).sum())
        return within(a) + within(b) - 2 * across

    return Measure(value, f"{pool.note}; unbiased, so it can be negative")


@register("images")
def sliced_wasserstein(pool: Pool) -> Measure:
    """Root mean square over random directions of the Wasserstein-2 distance along each."""
    directions = np.random.default_rng(pool.seed).normal(size=(pool.vectors.shape[1], _DIRECTIONS))
    projected = pool.vectors @ (directions / np.linalg.norm(directions, axis=0))

    def value(first: Positions, second: Positions) -> float:
        return _wasserstein(projected[pool.rows(first)], projected[pool.rows(second)])

    return Measure(value, f"{pool.note}, {_DIRECTIONS} directions", slow=True)


def _wasserstein(a: Matrix, b: Matrix) -> float:
    count = max(len(a), len(b))
    quantiles = (np.arange(count) + 0.5) / count
    a, b = (
        np.sort(side, axis=0)[np.minimum((quantiles * len(side)).astype(int), len(side) - 1)]
        for side in (a, b)
    )
    return float(np.sqrt(np.mean((a - b) ** 2)))


DEFAULT = tuple(measure.name for measure in MEASURES.values() if measure.by_default)


@dataclass(frozen=True)
class MeasuredShift:
    """One measure of shift; its interval is None if a side has fewer than 4 classes."""

    measure: str
    value: float | None  # None if it is undefined for these vectors
    low: float | None  # value ± 1.96 standard deviations over classes resampled with replacement
    high: float | None
    chance: float | None
    """Expected from sampling alone (permutation baseline): the mean over random assignments of the
    classes to the two sides."""
    note: str


@dataclass(frozen=True)
class ShiftReport:
    """The shift between two sets by several measures."""

    shifts: tuple[MeasuredShift, ...]
    images: tuple[int, int]
    classes: tuple[int, int]

    def __iter__(self) -> Iterator[MeasuredShift]:
        return iter(self.shifts)

    def __getitem__(self, measure: str) -> MeasuredShift:
        by_name = {shift.measure: shift for shift in self.shifts}
        if measure not in by_name:
            raise unknown("measure", measure, by_name)
        return by_name[measure]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shifts = [asdict(shift) for shift in self.shifts]
        return {"images": [*self.images], "classes": [*self.classes], "measures": shifts}


def shift_report(
    a: VectorSet,
    b: VectorSet,
    measures: Sequence[str] | None = None,
    *,
    n_bootstrap: int = 100,
    seed: int = 0,
    max_images: int = 2000,
) -> ShiftReport:
    """Measure the shift from `a` to `b`: FID of class means and of images, kernel distance, ….

    Args:
        a, b: two sets of vectors of the same network, with at least two classes each.
        measures: names from `oodml.shift.measures.MEASURES`; None uses all except the
            extrapolated FID, which is slow.
        n_bootstrap, seed: resamples for the interval and for chance (slow measures use a tenth),
            and their random seed.
        max_images: images per set that image measures use at most (or one per class).

    Raises:
        OodmlError: if the sets have different widths or a measure does not exist.
    """
    widths = a.vectors.shape[1], b.vectors.shape[1]
    if widths[0] != widths[1]:
        problem = f"the sets have {widths[0]} and {widths[1]} dimensions"
        raise OodmlError(f"{problem}; embed both with the same network", given=widths)
    chosen = [find_measure(name) for name in (DEFAULT if measures is None else measures)]
    pool = Pool(a, b, max_images, seed)
    shifts = tuple(_measure(one, pool, n_bootstrap, seed) for one in chosen)
    return ShiftReport(shifts, (len(a), len(b)), (len(a.class_names), len(b.class_names)))


def _measure(one: RegisteredMeasure, pool: Pool, n_bootstrap: int, seed: int) -> MeasuredShift:
    measure = one.make(pool.means if one.needs == "class means" else pool)
    name, sides = one.name, (pool.first, pool.second)
    value = measure.value(*sides)
    if not np.isfinite(value):
        return MeasuredShift(name, None, None, None, None, measure.note)
    count = max(2, n_bootstrap // 10) if measure.slow else n_bootstrap
    if min(map(len, sides)) < 4 or count < 2 or n_bootstrap == 0:
        return MeasuredShift(name, value, None, None, None, measure.note)
    generator = np.random.default_rng(seed)
    shift = measure.approximate or measure.value
    resampled, permuted = [], []
    with Progress(f"Resamples of {name}", 2 * count, "resamples") as progress:
        for _ in range(count):
            resampled.append(shift(*(_resample(generator, side) for side in sides)))
            progress.advance()
        for _ in range(count):
            both = generator.permutation(np.concatenate(sides))
            permuted.append(shift(both[: len(pool.first)], both[len(pool.first) :]))
            progress.advance()
    margin = 1.96 * float(np.nanstd(resampled, ddof=1))
    chance = float(np.nanmean(permuted))
    return MeasuredShift(name, value, value - margin, value + margin, chance, measure.note)


def _resample(generator: np.random.Generator, classes: Positions) -> Positions:
    """As many classes, drawn with replacement, at least two of them different."""
    while True:
        drawn = generator.choice(classes, size=len(classes))
        if len(np.unique(drawn)) > 1:
            return drawn
