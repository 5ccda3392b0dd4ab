"""Measures of shift: their registry, and the measures that need only class means.

Measures of the images' own vectors are in `image_measures`. To add a measure, write a function
with the decorator `register` in either file. `oodml shift` then reports it, and one that needs
only class means can also drive a progression (`SplitSettings.measure`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Num

from oodml.errors import unknown
from oodml.shift.distances import ClassMeanFid, CovarianceFid, GramFid, Matrix, Positions, as_sets

STANDARD_MEASURE = "fid_class_means"
"""The measure of the published progressions."""
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
    """A measure in the registry."""

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
    most = max(2 * means.shape[1], 500)
    fid: ClassMeanFid = (GramFid if len(means) <= most else CovarianceFid)(means)
    repeats = isinstance(fid, GramFid)

    def value(first: Positions, second: Positions) -> float:
        if repeats:
            return fid.shift(first, second)
        return fid.shift(np.unique(first), np.unique(second))

    return Measure(value, "of class means; depends on the number of classes")


@register("class means")
def nearest_class(means: Float[np.ndarray, "c d"]) -> Measure:
    """Mean distance from a class of B to the nearest class of A, relative to that within A.

    Euclidean distances between class means. The value is 1 if the classes of B are as close to A
    as the classes of A are to each other, and NaN if the class means of A are all equal.
    """
    norms = np.einsum("cd,cd->c", means, means)
    squares = norms[:, None] + norms[None, :] - 2 * means @ means.T
    distances: Matrix = np.sqrt(np.clip(squares, 0, None))
    np.fill_diagonal(distances, np.inf)

    def value(first: Positions, second: Positions) -> float:
        among = np.unique(first)
        own = distances[np.ix_(among, among)].min(axis=1).mean()
        if own == 0:  # all classes of the first set have the same mean
            return float("nan")
        return float(distances[np.ix_(among, second)].min(axis=0).mean() / own)

    return Measure(
        value, "mean distance from B's classes to the nearest of A, relative to within A"
    )
