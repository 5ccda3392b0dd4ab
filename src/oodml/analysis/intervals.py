"""The Aggregated Generalization Score (AGS), and confidence intervals of means over seeds."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.errors import OodmlError

Numbers: TypeAlias = Collection[Any]
"""A list, an array, or a column of numbers."""
SEPARATED = 0.975
"""The one-sided probability from which the two-sided 95% interval of a difference excludes 0."""
_EQUAL = 1e-12
"""Values that differ by no more than this (relative to their size) count as equal."""


def aggregated_generalization_score(shift: Numbers, value: Numbers) -> float:
    """Area under `value` over `shift` by the trapezoid rule, with shift rescaled to [0, 1].

    The score has the unit of the metric: a method with the same value on every split has that
    value as its score. Source: Milbich et al., NeurIPS 2021, section 4.

    Args:
        shift: [n] the shift of each split, in any order.
        value: [n] the metric on each split.

    Raises:
        OodmlError: for fewer than two different shifts, and for numbers that are not finite.
    """
    values = _finite(value, "value")
    weights = ags_weights(shift)
    if len(values) != len(weights):
        problem = f"AGS: {len(weights)} shifts for {len(values)} values"
        raise OodmlError(problem, "value", len(values))
    return float(weights @ values)


def ags_weights(shift: Numbers) -> NDArray[np.float64]:
    """[n] the weight of each split's value in the score; splits of equal shift share theirs."""
    shifts = _finite(shift, "shift")
    if len(shifts) < 2:
        problem = f"AGS: at least 2 splits are required; given {len(shifts)}"
        raise OodmlError(problem, "shift", len(shifts))
    points, position, sharing = np.unique(shifts, return_inverse=True, return_counts=True)
    if len(points) < 2:
        problem = f"AGS: all {len(shifts)} splits have the shift {shifts[0]:g}"
        raise OodmlError(problem, "shift", float(shifts[0]))
    gaps = np.diff(points) / (points[-1] - points[0])
    weights = (np.append(gaps, 0.0) + np.append(0.0, gaps)) / 2
    return np.asarray((weights / sharing)[position], dtype=np.float64)


def _finite(numbers: Numbers, name: str) -> NDArray[np.float64]:
    array = np.asarray([*numbers], dtype=np.float64)
    if array.ndim != 1:
        problem = f"AGS: {name} must contain one number per split; given shape {array.shape}"
        raise OodmlError(problem, name, array.shape)
    if len(bad := np.flatnonzero(~np.isfinite(array))):
        problem = f"AGS: {name} of split {bad[0]} is {array[bad[0]]}; it must be finite"
        raise OodmlError(problem, name, float(array[bad[0]]))
    return array


class Interval(NamedTuple):
    """A mean of `n` values and the bounds of its interval.

    The bounds are NaN where no interval can be computed: for a single value, for equal values
    (which give no estimate of the variance), and for baselines, which are constants.
    """

    mean: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0


def student_interval(values: Numbers, level: float = 0.95) -> Interval:
    """The Student-t interval of the mean of finite values."""
    from scipy.special import stdtrit

    sample = _sample(values)
    mean, n = float(sample.mean()), len(sample)
    if _all_equal(sample):
        return Interval(mean, n=n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(sample.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half, mean + half, n)


def method_interval(values: Numbers, constant: bool) -> Interval:
    """The interval of a method's mean over seeds; a baseline (`constant`) has none."""
    interval = student_interval(values)
    return Interval(interval.mean, n=interval.n) if constant else interval


def probability_positive(differences: Numbers) -> float:
    """The probability that the mean of paired differences is above zero.

    The Student-t posterior of a normal mean under a flat prior: one minus the one-sided p value of
    the t test. NaN for a single difference and for equal ones; 0.5 where all are zero.
    """
    from scipy.special import stdtr

    sample = _sample(differences)
    if len(sample) > 1 and np.abs(sample).max() <= _EQUAL:
        return 0.5
    if _all_equal(sample):
        return float("nan")
    error = float(sample.std(ddof=1)) / len(sample) ** 0.5
    return float(stdtr(len(sample) - 1, float(sample.mean()) / error))


def ags_interval(shift: Numbers, values: Float[np.ndarray, "seeds splits"]) -> Interval:
    """The AGS of a method with its interval over the scores of seeds without a missing split (NaN).

    If every seed lacks a split, the score is that of the splits' means and has no interval.
    """
    weights = ags_weights(shift)
    complete = values[np.isfinite(values).all(axis=1)]
    if len(complete):
        return student_interval(complete @ weights)
    if np.isnan(values).all(axis=0).any():
        return Interval()
    return Interval(float(np.nanmean(values, axis=0) @ weights))


def bootstrap_interval(
    values: Float[np.ndarray, "seeds ..."],
    statistic: Callable[[NDArray[np.float64]], float],
    generator: np.random.Generator,
    draws: int = 2000,
) -> Interval:
    """The percentile interval of a statistic under resampling of seeds, which is too narrow for few
    seeds: three give only ten different resamples."""
    n = len(values)
    estimate = float(statistic(np.asarray(values, dtype=np.float64)))
    if n < 2:
        return Interval(estimate, n=n)
    # Few seeds have few different resamples, each of which is computed once.
    rows = generator.integers(n, size=(draws, n))
    distinct, position = np.unique(rows, axis=0, return_inverse=True)
    estimates = np.array([statistic(values[row]) for row in distinct])[position.ravel()]
    if np.isnan(estimates).all():
        return Interval(estimate, n=n)
    low, high = np.nanquantile(estimates, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return Interval(estimate, float(low), float(high), n)


def _all_equal(sample: NDArray[np.float64]) -> bool:
    return bool(np.ptp(sample) <= _EQUAL * max(1.0, float(np.abs(sample).max())))


def _sample(values: Numbers) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        problem = f"an interval requires a list of finite numbers; given {values!r:.80}"
        raise OodmlError(problem, given=values)
    return sample
