"""Does the measure depend on the network? One progression, measured on several features."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau, spearmanr

from oodml.errors import OodmlError
from oodml.shift.controls import measured
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Agreement:
    """The FID of class means of the same splits under several networks.

    backbones: [b]. steps: [s]. shifts: [b s]. normalized: [b s], each network's from 0 to 1.
    spearman, kendall: [b b] rank correlation of the shifts of two networks.
    """

    backbones: tuple[str, ...]
    steps: tuple[int | str, ...]
    shifts: Float[np.ndarray, "b s"]
    normalized: Float[np.ndarray, "b s"]
    spearman: Float[np.ndarray, "b b"]
    kendall: Float[np.ndarray, "b b"]

    @property
    def largest_gap(self) -> float:
        """The most by which two networks' normalised shifts of a split differ."""
        return float(np.ptp(self.normalized, axis=0).max())


def backbone_agreement(progression: Progression, features: Mapping[str, VectorSet]) -> Agreement:
    """Measure a progression on the features of several networks, at least two.

    features: by the network's name, each with all the progression's classes.
    """
    if len(features) < 2:
        raise OodmlError(f"{len(features)} backbones; at least 2 are compared")
    if len(progression) < 2:
        raise OodmlError(f"{len(progression)} splits; at least 2 are needed to rank them")
    shifts = np.array(
        [[split.shift for split in measured(progression, vectors)] for vectors in features.values()]
    )
    low, spread = shifts.min(axis=1, keepdims=True), np.ptp(shifts, axis=1, keepdims=True)
    if not spread.all():
        name = list(features)[int(np.argmin(spread))]
        raise OodmlError(f"all splits have the same shift under {name}; nothing to compare")
    pairs = np.ones((2, len(shifts), len(shifts)))
    for i, j in np.ndindex(len(shifts), len(shifts)):
        pairs[0, i, j] = spearmanr(shifts[i], shifts[j]).statistic
        pairs[1, i, j] = kendalltau(shifts[i], shifts[j]).statistic
    steps = tuple(split.step for split in progression)
    return Agreement(tuple(features), steps, shifts, (shifts - low) / spread, *pairs)
