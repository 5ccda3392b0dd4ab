"""The published procedure on superclasses: a group of classes moves as one.

A superclass may stand on both sides at the start (as in Stanford Online Products, where every
product category does), so the unit that moves is a superclass's classes of one side.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Num

from oodml.errors import OodmlError
from oodml.shift.progression import published_progression
from oodml.shift.sides import sides_of
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
) -> Progression:
    """`published_progression` with the superclasses of either side in the place of classes.

    superclass_of: the superclass of every class. A unit's mean is that of its class means.
    The shift recorded is the FID of the class means, comparable with that of other progressions;
    steps count the pairs of units exchanged. The sides may come to differ in their numbers of
    classes.
    """
    train, test = (
        _units(means, classes, superclass_of, side)
        for means, classes, side in (
            (train_means, train_classes, "train"),
            (test_means, test_classes, "test"),
        )
    )
    members = train.members | test.members
    moved = published_progression(
        train.means,
        test.means,
        list(train.members),
        list(test.members),
        iterations,
        swaps_per_iteration,
        history,
        easier,
    )
    order = {str(name): place for place, name in enumerate((*train_classes, *test_classes))}
    measure = sides_of(np.concatenate([train_means, test_means]))

    def expanded(split: Split) -> Split:
        sides = (split.train, split.test)
        train, test = (tuple(name for unit in side for name in members[unit]) for side in sides)
        positions = (np.array([order[name] for name in side]) for side in (train, test))
        return replace(split, train=train, test=test, shift=measure.shift(*positions))

    return replace(
        moved,
        splits=tuple(map(expanded, moved)),
        settings={**moved.settings, "unit": "superclass of a side"},
    )


@dataclass(frozen=True)
class _Units:
    """The superclasses of one side: the classes of each, by the unit's name, and its mean."""

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
            raise OodmlError(f"class {name!r} has no superclass")
        rows[f"{side}:{superclass_of[name]}"].append(row)
    members = {unit: [str(classes[row]) for row in found] for unit, found in rows.items()}
    return _Units(members, np.stack([means[found].mean(axis=0) for found in rows.values()]))
