"""The Aggregated Generalization Score: the area under a metric over a progression."""

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError

Numbers: TypeAlias = Collection[Any]
"""A list, an array, or a table's column of numbers."""


def aggregated_generalization_score(shift: Numbers, value: Numbers) -> float:
    """Area under `value` over `shift`, the shift rescaled to run from 0 to 1 (trapezoid rule).

    shift: [n] the shift of each split, in any order. value: [n] the metric there. The result
    has the metric's unit: a method with the same value everywhere scores that value. Milbich et
    al., NeurIPS 2021, section 4.

    Raises `OodmlError` for fewer than two splits, for shifts that are all equal, and for
    numbers that are not finite.
    """
    values = _finite(value, "value")
    weights = ags_weights(shift)
    if len(values) != len(weights):
        raise OodmlError(f"AGS: {len(weights)} shifts for {len(values)} values")
    return float(weights @ values)


def ags_weights(shift: Numbers) -> NDArray[np.float64]:
    """[n] the weight of each split's value in the score; they sum to 1.

    Splits of equal shift share their weight, so that their order does not matter.
    """
    shifts = _finite(shift, "shift")
    if len(shifts) < 2:
        raise OodmlError(f"AGS: needs at least 2 splits; given {len(shifts)}")
    points, position, sharing = np.unique(shifts, return_inverse=True, return_counts=True)
    if len(points) < 2:
        raise OodmlError(f"AGS: all {len(shifts)} splits have the shift {shifts[0]:g}")
    gaps = np.diff(points) / (points[-1] - points[0])
    weights = (np.append(gaps, 0.0) + np.append(0.0, gaps)) / 2
    return np.asarray((weights / sharing)[position], dtype=np.float64)


def _finite(numbers: Numbers, what: str) -> NDArray[np.float64]:
    array = np.asarray([*numbers], dtype=np.float64)
    if array.ndim != 1:
        raise OodmlError(f"AGS: {what} must be one number a split; given shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise OodmlError(f"AGS: {what} of split {bad[0]} is {array[bad[0]]}; numbers are needed")
    return array
