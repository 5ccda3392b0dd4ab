"""How sure a mean over seeds is."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.analysis.ags import Numbers, ags_weights
from oodml.errors import OodmlError


class Interval(NamedTuple):
    """A mean of `n` values with the bounds of its interval; NaN bounds where n is 1."""

    mean: float
    low: float
    high: float
    n: int


def student_interval(values: Numbers, level: float = 0.95) -> Interval:
    """The Student-t interval of the mean of values; one value has no interval."""
    from scipy.special import stdtrit

    sample = _sample(values)
    mean, n = float(sample.mean()), len(sample)
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(sample.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half, mean + half, n)


def probability_positive(differences: Numbers) -> float:
    """The probability that the mean of paired differences is above zero.

    The Student-t posterior of a normal mean under a flat prior, which is one minus the
    one-sided p value. NaN for a single difference.
    """
    from scipy.special import stdtr

    sample = _sample(differences)
    if len(sample) == 1:
        return float("nan")
    mean = float(sample.mean())
    error = float(sample.std(ddof=1)) / len(sample) ** 0.5
    if error == 0.0:
        return 0.5 * (1.0 + float(np.sign(mean)))
    return float(stdtr(len(sample) - 1, mean / error))


def ags_interval(
    shift: Numbers, values: Float[np.ndarray, "seeds splits"], level: float = 0.95
) -> Interval:
    """AGS of a method with its interval over seeds.

    One score a seed, then a Student-t interval of their mean: it holds however the splits of one
    seed depend on each other. A seed that lacks a split (NaN) is left out; if every seed
    lacks one, the score is that of the splits' means and has no interval.
    """
    weights = ags_weights(shift)
    complete = values[np.isfinite(values).all(axis=1)]
    if len(complete):
        return student_interval(complete @ weights, level)
    if np.isnan(values).all(axis=0).any():
        return Interval(np.nan, np.nan, np.nan, 0)
    return Interval(float(np.nanmean(values, axis=0) @ weights), np.nan, np.nan, 0)


def bootstrap_interval(
    values: Float[np.ndarray, "seeds ..."],
    statistic: Callable[[NDArray[np.float64]], float],
    generator: np.random.Generator,
    level: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """The percentile interval of `statistic` when seeds are drawn anew, with replacement.

    For statistics without a t interval, such as a rank or a correlation. It is too narrow for
    few seeds: three draw only ten different samples.
    """
    n = len(values)
    estimate = float(statistic(np.asarray(values, dtype=np.float64)))
    if n < 2:
        return Interval(estimate, np.nan, np.nan, n)
    rows = generator.integers(n, size=(draws, n))
    found = np.array([statistic(values[row]) for row in rows])
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), n)


def _sample(values: Numbers) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise OodmlError(f"an interval needs a list of numbers; given {values!r:.80}")
    return sample
