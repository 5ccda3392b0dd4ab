"""The Aggregated Generalization Score (AGS): the area under a metric over a progression."""

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError

Numbers: TypeAlias = Collection[Any]
"""A list, an array, or a column of numbers."""


def aggregated_generalization_score(shift: Numbers, value: Numbers) -> float:
    """Area under `value` over `shift` by the trapezoid rule, with shift rescaled to [0, 1].

    The score has the unit of the metric: a method with the same value on every split has that
    value as its score. Source: Milbich et al., NeurIPS 2021, section 4.

    Args:
        shift: [n] the shift of each split, in any order.
        value: [n] the metric on each split.

    Raises:
        OodmlError: for fewer than two splits, for shifts that are all equal, and for numbers
            that are not finite.
    """
    values = _finite(value, "value")
    weights = ags_weights(shift)
    if len(values) != len(weights):
        problem = f"AGS: {len(weights)} shifts for {len(values)} values"
        raise OodmlError(problem, "value", len(values))
    return float(weights @ values)


def ags_weights(shift: Numbers) -> NDArray[np.float64]:
    """The weight of each split's value in the score.

    Splits of equal shift share their weight, so their order does not matter.

    Args:
        shift: [n] the shift of each split, in any order.

    Returns:
        [n] weights that sum to 1.
    """
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
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        problem = f"AGS: {name} of split {bad[0]} is {array[bad[0]]}; it must be finite"
        raise OodmlError(problem, name, float(array[bad[0]]))
    return array
