"""Lines through a study's points: a metric over shift, one line a method."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import stdtrit

FITS = ("own", "common", "flat")
"""own: each method has a slope of its own. common: one slope and one scatter for all methods,
each at its own height. flat: no slope, the mean of the points, which asks no shift at all."""


class Lines(NamedTuple):
    """A line of each method, and how far new points scatter around it.

    centre, level, slope: [m] the line passes through (centre, level). spread: [m] the sum of
    squares of the shifts around the centre. scale: [m] the standard deviation around the line.
    groups: [m] how many groups of points it rests on. freedom: [m] degrees of freedom left.
    """

    centre: Float[np.ndarray, " m"]
    level: Float[np.ndarray, " m"]
    slope: Float[np.ndarray, " m"]
    spread: Float[np.ndarray, " m"]
    scale: Float[np.ndarray, " m"]
    groups: Float[np.ndarray, " m"]
    freedom: Float[np.ndarray, " m"]

    def expected(self, at: Float[np.ndarray, " p"]) -> Float[np.ndarray, "m p"]:
        """The lines, read off at some shifts."""
        away = at - self.centre[:, None]
        return np.asarray(self.level[:, None] + self.slope[:, None] * away)

    def half_width(self, at: Float[np.ndarray, " p"], level: float) -> Float[np.ndarray, "m p"]:
        """Half the interval of a new point at some shifts, Student t; NaN without freedom."""
        with np.errstate(divide="ignore", invalid="ignore"):
            tilt = (at - self.centre[:, None]) ** 2 / self.spread[:, None]
            error = self.scale[:, None] * np.sqrt(1 + 1 / self.groups[:, None] + tilt)
            quantile = stdtrit(np.where(self.freedom > 0, self.freedom, np.nan), (1 + level) / 2)
        return np.asarray(quantile[:, None] * error)


def fit_lines(
    shift: Float[np.ndarray, " n"],
    values: Float[np.ndarray, "m n"],
    groups: Int[np.ndarray, " n"],
    fit: str = "own",
) -> Lines:
    """Least-squares lines through the points of each method, NaN where a value is missing.

    groups: [n] the group of each point, such as the superclass. The points of a group err
    together, so each group counts as one observation: its points share its weight, and the
    degrees of freedom are those of the groups. For the same reason all methods together count
    no more than one does: with "common" they share a slope and a scatter, but gain no freedom.
    """
    known = np.isfinite(values) & np.isfinite(shift)
    weights = _weights(known, groups)
    count = weights.sum(axis=1)
    y = np.where(known, values, 0.0)
    x = np.where(np.isfinite(shift), shift, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre, level = weights @ x / count, (weights * y).sum(axis=1) / count
        away, off = x - centre[:, None], y - level[:, None]
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
    return Lines(centre, level, slope, spread, np.sqrt(squares), count, freedom)


def _weights(known: Bool[np.ndarray, "m n"], groups: Int[np.ndarray, " n"]) -> NDArray[np.float64]:
    """[m n] one over how many points of its group a method has; 0 where its value is missing."""
    member = (groups[:, None] == np.arange(groups.max(initial=-1) + 1)).astype(np.float64)
    sizes = (known @ member)[:, groups]
    return np.where(known, 1.0 / np.maximum(sizes, 1.0), 0.0)
