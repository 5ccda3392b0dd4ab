"""Controls of a progression: size-matched splits, and the shift on features of other networks."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau, spearmanr

from oodml.errors import OodmlError, error_at
from oodml.results.schema import STANDARD_STEP, control_step
from oodml.shift.distances import ClassMeanFid, GramFid, class_mean_fid
from oodml.shift.measures import STANDARD_MEASURE, progression_measure
from oodml.shift.splits import Progression, Split, standard_train_classes
from oodml.vectors import VectorSet


def size_matched(
    split: Split, seed: int, standard: Split | None = None, features: VectorSet | None = None
) -> Split:
    """A random control with as many train and test classes as `split`.

    Args:
        seed: random seed; also part of the control's step, "<step> control <seed>".
        standard: the split whose train and test classes to draw from, each for its own side.
            Without it, the classes of `split` are assigned to the sides at random.
        features: measures the control's shift (FID of class means); without it, the shift is NaN.
    """
    generator = np.random.default_rng(seed)
    sides = []
    if standard is None:
        permuted = generator.permutation(sorted((*split.train, *split.test))).tolist()
        sides = [permuted[: len(split.train)], permuted[len(split.train) :]]
    else:
        for side in ("train", "test"):
            names, count = getattr(standard, side), len(getattr(split, side))
            if count > len(names):
                problem = f"{count} {side} classes are needed, the standard split has {len(names)}"
                raise OodmlError(problem, side, count)
            sides.append(generator.choice(sorted(names), size=count, replace=False).tolist())
    train, test = (tuple(sorted(side)) for side in sides)
    control = Split(control_step(split.step, seed), train, test, math.nan)
    return control if features is None else _measure(features)(control)


def size_controls(
    progression: Progression, features: VectorSet, seeds: Sequence[int] = (0, 1, 2)
) -> Progression:
    """Size-matched controls of every split that has lost classes, one per seed."""
    measure = _measure(features, progression.shift_measure)
    standard = next((s for s in progression if s.step == STANDARD_STEP), None)
    if standard is None:
        largest = max(progression, key=lambda split: len(split.train))
        names = sorted((*largest.train, *largest.test))
        train = standard_train_classes(names)
        standard = Split(STANDARD_STEP, tuple(train), tuple(names[len(train) :]), math.nan)
    size = len(standard.train) + len(standard.test)
    smaller = [s for s in progression if len(s.train) + len(s.test) < size]
    controls = tuple(measure(size_matched(s, seed, standard)) for s in smaller for seed in seeds)
    name, of = "size-matched controls", {"of": progression.procedure}
    return replace(progression, splits=controls, procedure=name, settings=of)


def remeasure(progression: Progression, features: VectorSet) -> Progression:
    """The same splits with the shift measured on other features."""
    splits = tuple(map(_measure(features, progression.shift_measure), progression))
    return replace(progression, splits=splits, backbone=str(features.source.get("backbone", "")))


def _measure(features: VectorSet, measure: str = STANDARD_MEASURE) -> Callable[[Split], Split]:
    """A function that measures the shift of a split."""
    position = {name: row for row, name in enumerate(features.class_names)}
    means = features.class_means()
    small = len(means) <= 4 * means.shape[1]
    fid: ClassMeanFid = GramFid(means) if small else class_mean_fid(means)
    shift = progression_measure(measure, means, fid)

    def measured(split: Split) -> Split:
        for name in (*split.train, *split.test):
            if name not in position:
                raise error_at(f"step {split.step}", f"no vectors of class {name!r}", name)
        sides = (np.array([position[n] for n in side]) for side in (split.train, split.test))
        return replace(split, shift=shift(*sides))

    return measured


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
    for count, of in ((len(features), "backbones"), (len(progression), "splits")):
        if count < 2:
            raise OodmlError(f"{count} {of}; a comparison needs at least 2", given=count)
    measured = (remeasure(progression, vectors) for vectors in features.values())
    shifts = np.array([[split.shift for split in one] for one in measured])
    low, spread = shifts.min(axis=1, keepdims=True), np.ptp(shifts, axis=1, keepdims=True)
    if not spread.all():
        name = list(features)[int(np.argmin(spread))]
        raise OodmlError(f"all splits have the same shift under {name!r}", given=name)
    pairs = [
        np.array([[rank(a, b).statistic for b in shifts] for a in shifts])
        for rank in (spearmanr, kendalltau)
    ]
    steps = tuple(split.step for split in progression)
    return Agreement(tuple(features), steps, shifts, (shifts - low) / spread, *pairs)
