"""Least-squares lines of a metric over shift, one line per method."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import stdtrit

FITS = ("own", "common", "flat")
"""own: a slope per method. common: one slope and one residual scale for all methods, with an
intercept per method. flat: no slope, the mean of the points, which does not use shift."""


class Lines(NamedTuple):
    """A line per method, and the scatter of new points around it.

    Attributes:
        center, level, slope: [m] the line passes through (center, level).
        spread: [m] the sum of squares of the shifts around the center.
        scale: [m] the residual standard deviation.
        groups: [m] the number of groups of points.
        freedom: [m] the degrees of freedom.
    """

    center: Float[np.ndarray, " m"]
    level: Float[np.ndarray, " m"]
    slope: Float[np.ndarray, " m"]
    spread: Float[np.ndarray, " m"]
    scale: Float[np.ndarray, " m"]
    groups: Float[np.ndarray, " m"]
    freedom: Float[np.ndarray, " m"]

    def expected(self, at: Float[np.ndarray, " p"]) -> Float[np.ndarray, "m p"]:
        """The value of each line at some shifts."""
        away = at - self.center[:, None]
        return np.asarray(self.level[:, None] + self.slope[:, None] * away)

    def half_width(self, at: Float[np.ndarray, " p"], level: float) -> Float[np.ndarray, "m p"]:
        """Half the width of a new point's Student-t interval; NaN without degrees of freedom."""
        with np.errstate(divide="ignore", invalid="ignore"):
            tilt = (at - self.center[:, None]) ** 2 / self.spread[:, None]
            error = self.scale[:, None] * np.sqrt(1 + 1 / self.groups[:, None] + tilt)
            quantile = stdtrit(np.where(self.freedom > 0, self.freedom, np.nan), (1 + level) / 2)
        return np.asarray(quantile[:, None] * error)


def fit_lines(
    shift: Float[np.ndarray, " n"],
    values: Float[np.ndarray, "m n"],
    groups: Int[np.ndarray, " n"],
    fit: str = "own",
) -> Lines:
    """Fit a line through the points of each method.

    The points of a group have correlated errors, so each group counts as one observation: its
    points share its weight, and the degrees of freedom are those of the groups. All methods
    together count no more than one does, for the same reason: with "common" they share a slope
    and a residual scale, but gain no degrees of freedom.

    Args:
        shift: [n] the shift of each point.
        values: [m n] the metric of each method, NaN where it is missing.
        groups: [n] the group of each point, such as its superclass.
    """
    known = np.isfinite(values) & np.isfinite(shift)
    weights = _weights(known, groups)
    count = weights.sum(axis=1)
    y = np.where(known, values, 0.0)
    x = np.where(np.isfinite(shift), shift, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        center, level = weights @ x / count, (weights * y).sum(axis=1) / count
        away, off = x - center[:, None], y - level[:, None]
        spread, along = (weights * away**2).sum(axis=1), (weights * away * off).sum(axis=1)
        slope = along / spread
        if fit == "common":
            slope = np.full_like(slope, np.nansum(along) / np.nansum(spread))
        elif fit == "flat":
            slope, spread = np.zeros_like(slope), np.full_like(slope, np.inf)
        freedom = count - (1.0 if fit == "flat" else 2.0)
        squares = (weights * (off - slope[:, None] * away) ** 2).sum(axis=1) / freedom
    squares = np.where(freedom > 0, squares, np.nan)
    if fit == "common" and np.isfinite(squares).any():
        squares = np.where(freedom > 0, np.nanmean(squares), np.nan)
    return Lines(center, level, slope, spread, np.sqrt(squares), count, freedom)


def _weights(known: Bool[np.ndarray, "m n"], groups: Int[np.ndarray, " n"]) -> NDArray[np.float64]:
    """[m n] one over the number of points in the group; 0 where the value is missing."""
    member = (groups[:, None] == np.arange(groups.max(initial=-1) + 1)).astype(np.float64)
    sizes = (known @ member)[:, groups]
    return np.where(known, 1.0 / np.maximum(sizes, 1.0), 0.0)
