"""The published procedure on superclasses: the classes of a superclass move together.

A superclass may have classes on both sides at the start, as every product category of Stanford
Online Products does. The unit that moves is therefore all classes of a superclass on one side.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from oodml.errors import OodmlError
from oodml.shift.class_mean_fid import class_mean_fid
from oodml.shift.measures import STANDARD_MEASURE, progression_measure
from oodml.shift.progression import published_progression
from oodml.shift.splits import Progression, Split


def superclass_progression(
    train_means: Num[np.ndarray, "n d"],
    test_means: Num[np.ndarray, "m d"],
    train_classes: Sequence[str],
    test_classes: Sequence[str],
    superclass_of: Mapping[str, str],
    iterations: int = 6,
    swaps_per_iteration: int = 1,
    history: int | None = None,
    easier: bool = False,
    measure: str = STANDARD_MEASURE,
) -> Progression:
    """`published_progression` with superclasses in place of classes."""
    train = _units(train_means, train_classes, superclass_of, "train")
    test = _units(test_means, test_classes, superclass_of, "test")
    members = train.members | test.members
    units = (train.means, test.means, list(train.members), list(test.members))
    moved = published_progression(*units, iterations, swaps_per_iteration, history, easier)
    position = {str(name): row for row, name in enumerate((*train_classes, *test_classes))}
    means = np.concatenate([train_means, test_means])
    shift = progression_measure(measure, means, class_mean_fid(means))

    def expand(split: Split) -> Split:
        sides = (split.train, split.test)
        train, test = (tuple(name for unit in side for name in members[unit]) for side in sides)
        rows = (np.array([position[name] for name in side]) for side in (train, test))
        return replace(split, train=train, test=test, shift=shift(*rows))

    return replace(
        moved,
        splits=tuple(map(expand, moved)),
        shift_measure=measure,
        settings={**moved.settings, "unit": "superclass of a side"},
    )


class _Units(NamedTuple):
    """The superclasses of one side: the classes of each unit by its name, and the units' means."""

    members: dict[str, list[str]]
    means: Float[np.ndarray, "u d"]


def _units(
    means: Num[np.ndarray, "n d"],
    classes: Sequence[str],
    superclass_of: Mapping[str, str],
    side: str,
) -> _Units:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(map(str, classes)):
        if name not in superclass_of:
            raise OodmlError(f"class {name!r} has no superclass", given=name)
        rows[f"{side}:{superclass_of[name]}"].append(row)
    members = {unit: [str(classes[row]) for row in of_unit] for unit, of_unit in rows.items()}
    return _Units(members, np.stack([means[of_unit].mean(axis=0) for of_unit in rows.values()]))
