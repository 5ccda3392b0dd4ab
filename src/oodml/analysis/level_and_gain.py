"""How difficult classes are, and how much of a loss along a progression is due to that."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.spatial.distance import cdist

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.evaluate.neighbors import unit_vectors
from oodml.vectors import VectorSet

RESAMPLES = 1000
_ENDS = ("value", "level", "shift")
Values = Float[np.ndarray, " t"]


class Difficulty(NamedTuple):
    """What sets the level of Recall@1 on some classes, whatever a model was trained on.

    `spacing` is the mean distance of a class mean to the nearest other class mean, on vectors of
    length 1. It is smaller for more, and for more similar classes.
    """

    images: int
    classes: int
    images_per_class: float
    spacing: float


def difficulty(vectors: Float[np.ndarray, "n d"], classes: Names) -> Difficulty:
    """Measure how difficult two or more classes are for retrieval, on features [n d] of a frozen
    network with their classes [n]."""
    means = VectorSet(unit_vectors(vectors), classes).class_means()
    n, k = len(vectors), len(means)
    if k < 2:
        raise OodmlError("difficulty requires at least two classes", location="classes", given=k)
    distances = cdist(means, means) + np.diag(np.full(k, np.inf))
    return Difficulty(n, k, n / k, float(distances.min(axis=1).mean()))


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
    """The loss of a method from the easiest to the hardest split, and its parts.

    `difficulty` is the loss of the frozen network, which shift cannot affect, and the change of the
    gain that comes with that of the level; `shift` is the change that comes with shift.
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

    From the `gain` of a method over the frozen network on small targets [t], the `shift` of their
    split, the `level` of the frozen network, and their superclasses `groups`, which are resampled
    for the intervals. `ends` are the easiest and the hardest split: `shift`, `level`, and `value`.
    """
    lost, fall, distance = (float(ends[x].iloc[0] - ends[x].iloc[1]) for x in _ENDS)
    generator, n_groups = np.random.default_rng(seed), groups.shape[1]
    counted, sizes, parts = groups.astype(np.float64), groups.sum(axis=1), []
    for resample in range(RESAMPLES + 1):
        picks = generator.integers(n_groups, size=n_groups) if resample else np.arange(n_groups)
        counts = np.bincount(picks, minlength=n_groups)
        model = fit_gain(gain, shift, level, counted @ counts / sizes)
        parts.append((fall * (1 + model.level), distance * model.shift))
    values = np.array(parts)
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
    shares = [Share(*map(float, row)) for row in zip(values[0], low, high, strict=True)]
    return Loss(lost, *shares)


def equal_difficulty(value: Values, level: Values, level_effect: float) -> Values:
    """The values [s] of a method if all splits had the mean level; see `GainModel.level`."""
    return np.asarray(value - (1 + level_effect) * (level - level.mean()))
