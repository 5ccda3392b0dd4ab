"""Measures of the shift between two sets of labelled vectors, each with its uncertainty."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oodml.errors import OodmlError, unknown
from oodml.shift.image_measures import fid_images, fid_images_extrapolated, kid, sliced_wasserstein
from oodml.shift.pool import Measure, Pool
from oodml.shift.sides import GramSides, MomentSides, Positions, Sides
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Shift:
    """One measure of shift.

    low, high: 95% interval, value ± 1.96 standard deviations over classes drawn anew with
    replacement; None where a side has fewer than 4 classes.
    chance: its mean when the classes of both sides are dealt anew at random: no shift but that
    of finite numbers. note: what the number is.
    """

    measure: str
    value: float
    low: float | None
    high: float | None
    chance: float | None
    note: str


@dataclass(frozen=True)
class ShiftReport:
    """The shift between two sets, by several measures. images, classes: of either set."""

    shifts: tuple[Shift, ...]
    images: tuple[int, int]
    classes: tuple[int, int]

    def __iter__(self) -> Iterator[Shift]:
        return iter(self.shifts)

    def __getitem__(self, measure: str) -> Shift:
        by_name = {shift.measure: shift for shift in self.shifts}
        if measure not in by_name:
            raise unknown("measure", measure, by_name)
        return by_name[measure]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "images": list(self.images),
            "classes": list(self.classes),
            "measures": [asdict(shift) for shift in self.shifts],
        }


def shift_report(
    a: VectorSet,
    b: VectorSet,
    measures: Sequence[str] | None = None,
    *,
    n_bootstrap: int = 100,
    seed: int = 0,
    max_images: int = 2000,
) -> ShiftReport:
    """How far `b` is from `a`: FID of class means and of images, kernel distance, and more.

    measures: some of `MEASURES`; None is all but the extrapolated FID, which is slow.
    n_bootstrap: classes are drawn anew so many times for the interval and for what is to be
    expected by chance; a tenth as often for measures of images, which are slower.
    max_images: measures of images use so many of either side at most (or one a class, if that
        is more), drawn by the seed.
    """
    if a.vectors.shape[1] != b.vectors.shape[1]:
        raise OodmlError(
            f"the sets have {a.vectors.shape[1]} and {b.vectors.shape[1]} dimensions; "
            "embed both with the same network"
        )
    chosen = DEFAULT if measures is None else tuple(measures)
    for name in chosen:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES)
    pool = Pool(a, b, max_images, seed)
    shifts = tuple(_measured(name, pool, n_bootstrap, seed) for name in chosen)
    return ShiftReport(shifts, (len(a), len(b)), (len(a.class_names), len(b.class_names)))


def fid_class_means(pool: Pool) -> Measure:
    """FID of the class means; the measure of the paper's progressions."""
    most = 2 * pool.means.shape[1]
    sides: Sides = (GramSides if len(pool.means) <= max(most, 500) else MomentSides)(pool.means)
    repeats = isinstance(sides, GramSides)

    def value(first: Positions, second: Positions) -> float:
        if repeats:
            return sides.shift(first, second)
        return sides.shift(np.unique(first), np.unique(second))

    return Measure(value, "of class means; depends on the number of classes")


def nearest_class(pool: Pool) -> Measure:
    """Distance of a class of b to its nearest class of a, against that among a's classes.

    The ratio of the two averages of Euclidean distances of class means: 1 where the new classes
    are as near as the old ones are among each other.
    """
    norms = np.einsum("cd,cd->c", pool.means, pool.means)
    squares = norms[:, None] + norms[None, :] - 2 * pool.means @ pool.means.T
    distances = np.sqrt(np.clip(squares, 0, None))
    np.fill_diagonal(distances, np.inf)

    def value(first: Positions, second: Positions) -> float:
        among = np.unique(first)
        own = distances[np.ix_(among, among)].min(axis=1).mean()
        if own == 0:
            raise OodmlError("nearest_class: all classes of the first set have the same mean")
        return float(distances[np.ix_(among, second)].min(axis=0).mean() / own)

    return Measure(value, "mean distance of b's classes to the nearest of a, relative to among a")


MEASURES: Mapping[str, Any] = {
    function.__name__: function
    for function in (
        fid_class_means,
        nearest_class,
        fid_images,
        fid_images_extrapolated,
        kid,
        sliced_wasserstein,
    )
}
DEFAULT = tuple(name for name in MEASURES if name != "fid_images_extrapolated")


def _measured(name: str, pool: Pool, n_bootstrap: int, seed: int) -> Shift:
    measure: Measure = MEASURES[name](pool)
    value = measure.value(pool.first, pool.second)
    enough = min(len(pool.first), len(pool.second)) >= 4
    count = max(2, n_bootstrap // 10) if measure.slow else n_bootstrap
    if not enough or count < 2 or n_bootstrap == 0:
        return Shift(name, value, None, None, None, measure.note)
    generator = np.random.default_rng(seed)
    draw = measure.approximate or measure.value
    again = [
        draw(_redrawn(generator, pool.first), _redrawn(generator, pool.second))
        for _ in range(count)
    ]
    by_chance = [draw(*_dealt(generator, pool)) for _ in range(count)]
    margin = 1.96 * float(np.std(again, ddof=1))
    chance = float(np.mean(by_chance))
    return Shift(name, value, value - margin, value + margin, chance, measure.note)


def _redrawn(generator: np.random.Generator, classes: Positions) -> Positions:
    """As many classes with replacement, at least two different ones."""
    while True:
        drawn = generator.choice(classes, size=len(classes))
        if len(np.unique(drawn)) > 1:
            return drawn


def _dealt(generator: np.random.Generator, pool: Pool) -> tuple[Positions, Positions]:
    dealt = generator.permutation(np.concatenate([pool.first, pool.second]))
    return dealt[: len(pool.first)], dealt[len(pool.first) :]
