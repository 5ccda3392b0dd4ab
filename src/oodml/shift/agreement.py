"""Compare the shift of the same splits under several networks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau, spearmanr

from oodml.errors import OodmlError
from oodml.shift.controls import remeasure
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Agreement:
    """The shift of the same splits under several networks."""

    backbones: tuple[str, ...]
    steps: tuple[int | str, ...]
    shifts: Float[np.ndarray, "b s"]
    normalized: Float[np.ndarray, "b s"]
    spearman: Float[np.ndarray, "b b"]
    kendall: Float[np.ndarray, "b b"]

    @property
    def largest_gap(self) -> float:
        """The largest difference between two networks' normalized shifts of a split."""
        return float(np.ptp(self.normalized, axis=0).max())


def backbone_agreement(progression: Progression, features: Mapping[str, VectorSet]) -> Agreement:
    """Measure a progression on the features of at least two networks."""
    if len(features) < 2:
        problem = f"{len(features)} backbones; a comparison needs at least 2"
        raise OodmlError(problem, given=len(features))
    if len(progression) < 2:
        problem = f"{len(progression)} splits; ranking needs at least 2"
        raise OodmlError(problem, given=len(progression))
    shifts = np.array(
        [
            [split.shift for split in remeasure(progression, vectors)]
            for vectors in features.values()
        ]
    )
    low, spread = shifts.min(axis=1, keepdims=True), np.ptp(shifts, axis=1, keepdims=True)
    if not spread.all():
        name = list(features)[int(np.argmin(spread))]
        raise OodmlError(f"all splits have the same shift under {name!r}", given=name)
    pairs = np.ones((2, len(shifts), len(shifts)))
    for i, j in np.ndindex(len(shifts), len(shifts)):
        pairs[0, i, j] = spearmanr(shifts[i], shifts[j]).statistic
        pairs[1, i, j] = kendalltau(shifts[i], shifts[j]).statistic
    steps = tuple(split.step for split in progression)
    return Agreement(tuple(features), steps, shifts, (shifts - low) / spread, *pairs)
