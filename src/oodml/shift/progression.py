"""The published procedures: exchange classes for harder or easier splits, or remove classes.

Milbich et al., "Characterizing Generalization under Out-of-Distribution Shifts in Deep Metric
Learning", NeurIPS 2021.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from oodml.errors import OodmlError, invalid
from oodml.progress import track
from oodml.shift.distances import Matrix, Positions, as_sets, class_mean_fid
from oodml.shift.measures import STANDARD_MEASURE, progression_measure
from oodml.shift.splits import Progression, Split, split_at

HISTORY, HISTORY_EASIER = 5, 30
Pairs = list[tuple[int, int]]


def published_progression(
    train_means: Num[np.ndarray, "n d"],
    test_means: Num[np.ndarray, "m e"],
    train_classes: Sequence[str],
    test_classes: Sequence[str],
    iterations: int = 25,
    swaps_per_iteration: int = 2,
    history: int | None = None,
    easier: bool = False,
    measure: str = STANDARD_MEASURE,
) -> Progression:
    """Exchange classes between the two sides so that the shift grows, or falls with `easier`.

    Each iteration exchanges the train classes that are closest to the test mean, relative to
    their own mean, for the test classes closest to the train mean. An exchanged class takes the
    other's position in the list. A split's step is the number of swaps so far, negative toward
    easier.

    Args:
        train_means, test_means: [n d], [m d] the mean feature of each class.
        train_classes, test_classes: the names of the classes, in the same order.
        iterations: the number of splits to record, each before its exchange.
        swaps_per_iteration: the number of pairs to exchange.
        history: positions used in this many previous exchanges are skipped; 5 by default, 30
            with `easier`.
        easier: exchange in the direction of lower shift.
        measure: the registered measure of class means to record as the shift.

    Raises:
        OodmlError: if the input is inconsistent, or the history leaves no class to exchange.
    """
    means, names = _check_input(train_means, test_means, train_classes, test_classes)
    if history is None:
        history = HISTORY_EASIER if easier else HISTORY
    _check_counts(iterations, swaps_per_iteration, history)
    fid = class_mean_fid(means)
    shift = progression_measure(measure, means, fid)
    train, test = _start(len(train_classes), len(means))
    candidates = _Candidates(swaps_per_iteration, history, easier)
    sign = -1 if easier else 1
    splits = []
    for iteration in track(range(iterations), "Building splits", iterations, "steps"):
        step = sign * iteration * swaps_per_iteration
        splits.append(split_at(step, names, train, test, shift(train, test)))
        if iteration + 1 < iterations:
            train, test = exchange(train, test, candidates.pairs(*fid.margins(train, test)))
    settings = _settings(iterations, swaps_per_iteration, history, fid.method)
    procedure = "published_easier" if easier else "published"
    return Progression(tuple(splits), procedure, measure, settings)


def removal_progression(
    train_means: Num[np.ndarray, "n d"],
    test_means: Num[np.ndarray, "m e"],
    train_classes: Sequence[str],
    test_classes: Sequence[str],
    iterations: int = 35,
    swaps_per_iteration: int = 2,
    history: int = HISTORY,
    measure: str = STANDARD_MEASURE,
) -> Progression:
    """Make a hard split harder by removing classes.

    Each iteration tries the exchange of the published procedure. If it lowers the shift, it is
    kept. Otherwise it is undone and the classes it would have moved are removed from both sides.
    Steps are "R<n>", where n is the number of swaps tried so far.

    Args:
        train_means, test_means: [n d], [m d] the mean feature of each class of the split to start
            from, such as the last split of `published_progression`. The other arguments are those
            of that function.

    Raises:
        OodmlError: if the input is inconsistent, or fewer than 2 classes would remain on a side.
    """
    means, names = _check_input(train_means, test_means, train_classes, test_classes)
    _check_counts(iterations, swaps_per_iteration, history)
    fid = class_mean_fid(means)
    shift_of = progression_measure(measure, means, fid)
    train, test = _start(len(train_classes), len(means))
    candidates = _Candidates(swaps_per_iteration, history, easier=False)
    shift = shift_of(train, test)
    splits = []
    for iteration in track(range(iterations), "Building splits", iterations, "steps"):
        step = f"R{iteration * swaps_per_iteration}"
        splits.append(split_at(step, names, train, test, shift))
        if iteration + 1 == iterations:
            break
        pairs = candidates.pairs(*fid.margins(train, test))
        exchanged = exchange(train, test, pairs)
        exchanged_shift = shift_of(*exchanged)
        if exchanged_shift < shift:
            (train, test), shift = exchanged, exchanged_shift
            continue
        train, test = _remove(train, test, pairs)
        if min(len(train), len(test)) < 2:
            problem = (
                f"removal at step {step} would leave fewer than 2 "
                f"classes on a side; at most {iteration + 1} iterations are possible"
            )
            raise invalid("iterations", iterations, problem)
        shift = shift_of(train, test)
    settings = _settings(iterations, swaps_per_iteration, history, fid.method)
    return Progression(tuple(splits), "removal", measure, settings)


class _Candidates:
    """Chooses the positions to exchange; it skips those used recently on the same side."""

    def __init__(self, count: int, history: int, easier: bool) -> None:
        self._count = count
        self._easier = easier
        self._used: tuple[deque[int], deque[int]] = deque(maxlen=history), deque(maxlen=history)

    def pairs(self, train_margins: Matrix, test_margins: Matrix) -> Pairs:
        order = [np.argsort(margin, kind="stable") for margin in (train_margins, test_margins)]
        if self._easier:
            order = [ranking[::-1] for ranking in order]
        rankings = [ranking.tolist() for ranking in order]
        return [
            (self._take(0, rankings[0], rank), self._take(1, rankings[1], rank))
            for rank in range(self._count)
        ]

    def _take(self, side: int, ranking: list[int], rank: int) -> int:
        used = self._used[side]
        for position in ranking[rank:]:
            if position not in used:
                used.append(position)
                return position
        problem = (
            f"history = {used.maxlen} with swaps_per_iteration = {self._count} leaves no class to "
            f"exchange among the {len(ranking)} {('train', 'test')[side]} classes; lower one of "
            "them"
        )
        raise OodmlError(problem, "history", used.maxlen)


def exchange(train: Positions, test: Positions, pairs: Pairs) -> tuple[Positions, Positions]:
    """Copies of both sides in which class i of the first and j of the second are exchanged."""
    train, test = train.copy(), test.copy()
    for i, j in pairs:
        train[i], test[j] = test[j], train[i]
    return train, test


def _remove(train: Positions, test: Positions, pairs: Pairs) -> tuple[Positions, Positions]:
    return np.delete(train, [i for i, _ in pairs]), np.delete(test, [j for _, j in pairs])


def _start(n_train: int, n: int) -> tuple[Positions, Positions]:
    return np.arange(n_train), np.arange(n_train, n)


def _settings(iterations: int, swaps: int, history: int, method: str) -> dict[str, int | str]:
    return {
        "iterations": iterations,
        "swaps_per_iteration": swaps,
        "history": history,
        "fid_by": method,
    }


def _check_counts(iterations: int, swaps: int, history: int) -> None:
    counts = {"iterations": (iterations, 1), "swaps_per_iteration": (swaps, 1)}
    for name, (value, least) in (counts | {"history": (history, 0)}).items():
        if value < least:
            raise invalid(name, value, f"it must be at least {least}")


def _check_input(
    train_means: Num[np.ndarray, "n d"],
    test_means: Num[np.ndarray, "m e"],
    train_classes: Sequence[str],
    test_classes: Sequence[str],
) -> tuple[Matrix, list[str]]:
    train, test = as_sets(train_means, test_means)
    for side, means, classes in (("train", train, train_classes), ("test", test, test_classes)):
        if len(means) != len(classes):
            problem = f"{len(classes)} {side} classes for {len(means)} {side} means"
            raise OodmlError(problem, location=f"{side}_classes")
    names = [str(name) for name in (*train_classes, *test_classes)]
    if len(set(names)) < len(names):
        name = next(name for position, name in enumerate(names) if name in names[:position])
        both = name in map(str, train_classes) and name in map(str, test_classes)
        reason = "is in both train and test" if both else "appears twice"
        raise OodmlError(f"class {name!r} {reason}", given=name)
    return np.concatenate([train, test]), names


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
