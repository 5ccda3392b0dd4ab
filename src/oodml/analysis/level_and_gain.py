"""How much of a loss along a progression is due to difficulty, and how much to shift."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

RESAMPLES = 1000
Values = Float[np.ndarray, " t"]


class GainModel(NamedTuple):
    """gain = intercept + shift × shift of the split + level × level of the frozen network."""

    intercept: float
    shift: float
    level: float


class Share(NamedTuple):
    """A part of a loss of Recall@1, and its 95% interval."""

    value: float
    low: float
    high: float


class Loss(NamedTuple):
    """The loss from the easiest to the hardest split, and its parts.

    Attributes:
        raw: the loss of the method.
        difficulty: the loss of the frozen network, which shift cannot affect, and the change of
            the gain that comes with that of the level.
        shift: the change of the gain that comes with shift.
    """

    raw: float
    difficulty: Share
    shift: Share


def fit_gain(gain: Values, shift: Values, level: Values, weights: Values) -> GainModel:
    """Fit the gain on small targets by weighted least squares."""
    x = np.stack([np.ones(len(gain)), shift, level], axis=1)
    root = np.sqrt(weights)[:, None]
    solution = np.linalg.lstsq(x * root, gain * root[:, 0], rcond=None)[0]
    return GainModel(*map(float, solution))


def divide_loss(
    gain: Values,
    shift: Values,
    level: Values,
    groups: Bool[np.ndarray, "t g"],
    ends: pd.DataFrame,
    seed: int = 0,
) -> Loss:
    """Divide the loss along a progression into difficulty and shift.

    Args:
        gain: [t] the gain of a method over the frozen network on each small target.
        shift: [t] the shift of its split.
        level: [t] Recall@1 of the frozen network on it.
        groups: [t g] its superclasses; they are resampled for the intervals.
        ends: two rows, the easiest and the hardest split, with `shift`, `level`, and `value` of
            the method.
        seed: of the resampling.
    """
    easy, hard = (row for _, row in ends.iterrows())
    fall, distance = float(easy["level"] - hard["level"]), float(easy["shift"] - hard["shift"])
    generator = np.random.default_rng(seed)
    n_groups = groups.shape[1]
    parts = []
    for resample in range(RESAMPLES + 1):
        picks = generator.integers(n_groups, size=n_groups) if resample else np.arange(n_groups)
        counts = np.bincount(picks, minlength=n_groups)
        weights = (groups * counts).sum(axis=1) / groups.sum(axis=1)
        model = fit_gain(gain, shift, level, weights)
        parts.append((fall * (1 + model.level), distance * model.shift))
    values = np.array(parts)
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
    shares = [Share(*map(float, row)) for row in zip(values[0], low, high, strict=True)]
    return Loss(float(easy["value"] - hard["value"]), *shares)


def equal_difficulty(value: Values, level: Values, level_effect: float) -> Values:
    """The values of a method on each split if all splits had the mean level of the frozen network.

    Args:
        value: [s] Recall@1 of the method.
        level: [s] Recall@1 of the frozen network.
        level_effect: `GainModel.level`.
    """
    return np.asarray(value - (1 + level_effect) * (level - level.mean()))


def zero_crossing(shift: Values, gain: Values) -> float | None:
    """The smallest shift at which the gain falls to zero, on straight lines between splits."""
    order = np.argsort(shift)
    x, y = shift[order], gain[order]
    for left, right in zip(range(len(x) - 1), range(1, len(x)), strict=True):
        if y[left] > 0 >= y[right]:
            return float(x[left] + (x[right] - x[left]) * y[left] / (y[left] - y[right]))
    return None
