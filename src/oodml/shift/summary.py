"""Summarize the shift between two vector sets by several measures, with uncertainty."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oodml.errors import OodmlError, unknown
from oodml.progress import Progress
from oodml.shift.distances import Positions
from oodml.shift.image_measures import Pool
from oodml.shift.measures import MEASURES, find_measure
from oodml.vectors import VectorSet

DEFAULT = tuple(measure.name for measure in MEASURES.values() if measure.by_default)


@dataclass(frozen=True)
class MeasuredShift:
    """One measure of shift.

    Attributes:
        value: the shift; None if it is undefined for these vectors.
        low, high: 95% interval, value ± 1.96 standard deviations over classes resampled with
            replacement; None if a side has fewer than 4 classes.
        chance: the value expected from sampling alone (permutation baseline): the mean over
            random assignments of the classes to the two sides.
    """

    measure: str
    value: float | None
    low: float | None
    high: float | None
    chance: float | None
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
    """Measure the shift from `a` to `b`: FID of class means and of images, kernel distance, ….

    Args:
        a, b: two sets of vectors of the same network, with at least two classes each.
        measures: names from `oodml.shift.measures.MEASURES`; None uses all except the
            extrapolated FID, which is slow.
        n_bootstrap: the number of resamples for the interval and the permutation baseline; slow
            measures use a tenth of it.
        seed: random seed for the resamples and for choosing images.
        max_images: image measures use at most this many images per set (or one per class, if
            that is more).

    Raises:
        OodmlError: if the sets have different widths or a measure does not exist.
    """
    if a.vectors.shape[1] != b.vectors.shape[1]:
        raise OodmlError(
            f"the sets have {a.vectors.shape[1]} and {b.vectors.shape[1]} dimensions; "
            "embed both with the same network",
            given=(a.vectors.shape[1], b.vectors.shape[1]),
        )
    chosen = DEFAULT if measures is None else tuple(measures)
    for name in chosen:
        find_measure(name)
    pool = Pool(a, b, max_images, seed)
    shifts = tuple(_measure(name, pool, n_bootstrap, seed) for name in chosen)
    return ShiftReport(shifts, (len(a), len(b)), (len(a.class_names), len(b.class_names)))


def _measure(name: str, pool: Pool, n_bootstrap: int, seed: int) -> MeasuredShift:
    registered = find_measure(name)
    measure = registered.make(pool.means if registered.needs == "class means" else pool)
    value = measure.value(pool.first, pool.second)
    if not np.isfinite(value):
        return MeasuredShift(name, None, None, None, None, measure.note)
    enough = min(len(pool.first), len(pool.second)) >= 4
    count = max(2, n_bootstrap // 10) if measure.slow else n_bootstrap
    if not enough or count < 2 or n_bootstrap == 0:
        return MeasuredShift(name, value, None, None, None, measure.note)
    generator = np.random.default_rng(seed)
    shift = measure.approximate or measure.value
    resampled, permuted = [], []
    with Progress(f"Resamples of {name}", 2 * count, "resamples") as progress:
        for _ in range(count):
            sides = _resample(generator, pool.first), _resample(generator, pool.second)
            resampled.append(shift(*sides))
            progress.advance()
        for _ in range(count):
            both = generator.permutation(np.concatenate([pool.first, pool.second]))
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
