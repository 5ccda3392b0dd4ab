"""Controls: what shift and size do apart, and where the standard split lies among random ones."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from oodml.errors import OodmlError
from oodml.shift.sides import GramSides, Sides, sides_of
from oodml.shift.splits import Progression, Split
from oodml.shift.start import standard_train
from oodml.vectors import VectorSet


def size_matched(
    split: Split, seed: int, standard: Split | None = None, features: VectorSet | None = None
) -> Split:
    """As many train and test classes as `split` has, drawn at random without its shift.

    standard: the split whose train and test classes they are drawn from on either side; without
    one, the split's own classes are dealt to the sides at random.
    features: to measure the control's shift with; without them it is not a number.
    The step is "<step> control <seed>". Raises `OodmlError` if `standard` is smaller.
    """
    generator = np.random.default_rng(seed)
    if standard is None:
        dealt = generator.permutation(sorted((*split.train, *split.test))).tolist()
        train, test = dealt[: len(split.train)], dealt[len(split.train) :]
    else:
        train = _drawn(generator, standard.train, len(split.train), "train")
        test = _drawn(generator, standard.test, len(split.test), "test")
    control = Split(
        f"{split.step} control {seed}", tuple(sorted(train)), tuple(sorted(test)), math.nan
    )
    return control if features is None else _Measured(features).split(control)


def size_controls(
    progression: Progression, features: VectorSet, seeds: Sequence[int] = (0, 1, 2)
) -> Progression:
    """Size-matched controls, one a seed, of every split that has lost classes.

    They are drawn from the split of step 0, or from the standard split of all classes where the
    progression has no step 0.
    """
    measured = _Measured(features)
    most = max((split for split in progression), key=lambda split: len(split.train))
    standard = next((s for s in progression if s.step == 0), None) or _standard(most)
    size = len(standard.train) + len(standard.test)
    smaller = [s for s in progression if len(s.train) + len(s.test) < size]
    controls = [measured.split(size_matched(s, seed, standard)) for s in smaller for seed in seeds]
    return replace(
        progression,
        splits=tuple(controls),
        procedure="size-matched controls",
        settings={"of": progression.procedure},
    )


def random_splits(
    features: VectorSet, count: int = 100, seed: int = 0, n_train: int | None = None
) -> Progression:
    """Splits of all classes at random, `n_train` of them to train on (half by default).

    In the order of their shift: the spread that a split by chance has.
    """
    names = list(features.class_names)
    n_train = len(names) // 2 if n_train is None else n_train
    if not 2 <= n_train <= len(names) - 2:
        raise OodmlError(f"n_train = {n_train}; with {len(names)} classes 2 to {len(names) - 2}")
    measured = _Measured(features)
    generator = np.random.default_rng(seed)
    splits = []
    for number in range(count):
        dealt = generator.permutation(names).tolist()
        sides = tuple(sorted(dealt[:n_train])), tuple(sorted(dealt[n_train:]))
        splits.append(measured.split(Split(f"random {number}", *sides, math.nan)))
    return Progression(
        tuple(sorted(splits, key=lambda split: split.shift)),
        "random",
        data=str(features.source.get("data", "")),
        fingerprint=str(features.source.get("fingerprint", "")),
        backbone=str(features.source.get("backbone", "")),
        seed=seed,
    )


def measured(progression: Progression, features: VectorSet) -> Progression:
    """The same splits with their shift measured on other features."""
    with_shift = _Measured(features)
    return replace(
        progression,
        splits=tuple(map(with_shift.split, progression)),
        backbone=str(features.source.get("backbone", "")),
    )


class _Measured:
    """Gives splits of some classes their shift."""

    def __init__(self, features: VectorSet) -> None:
        self._position = {name: place for place, name in enumerate(features.class_names)}
        means = features.class_means()
        small = len(means) <= 4 * means.shape[1]
        self._sides: Sides = GramSides(means) if small else sides_of(means)

    def split(self, split: Split) -> Split:
        for name in (*split.train, *split.test):
            if name not in self._position:
                raise OodmlError(f"step {split.step}: no vectors of class {name!r}")
        train, test = (
            np.array([self._position[name] for name in side]) for side in (split.train, split.test)
        )
        return replace(split, shift=self._sides.shift(train, test))


def _standard(split: Split) -> Split:
    names = sorted((*split.train, *split.test))
    train = standard_train(names)
    return Split(0, tuple(train), tuple(names[len(train) :]), math.nan)


def _drawn(
    generator: np.random.Generator, names: Sequence[str], count: int, side: str
) -> list[str]:
    if count > len(names):
        raise OodmlError(f"{count} {side} classes to draw from the standard split's {len(names)}")
    drawn = generator.choice(sorted(names), size=count, replace=False)
    return [str(name) for name in drawn]
