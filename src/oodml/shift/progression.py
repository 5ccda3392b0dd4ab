"""The published procedures: exchange classes for harder or easier splits, or remove classes.

Milbich et al., "Characterizing Generalization under Out-of-Distribution Shifts in Deep Metric
Learning", NeurIPS 2021.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Num

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
        train_classes, test_classes: the names [n], [m] of the classes.
        iterations: the number of splits to record, each before its exchange.
        swaps_per_iteration: the number of pairs to exchange.
        history: positions used in this many previous exchanges are skipped; 5 by default, 30
            with `easier`.
        measure: the registered measure of class means to record as the shift.

    Raises:
        OodmlError: if the input is inconsistent, or the history leaves no class to exchange.
    """
    if history is None:
        history = HISTORY_EASIER if easier else HISTORY
    start = _Start((train_means, test_means), (train_classes, test_classes), measure)
    settings = start.settings(iterations, swaps_per_iteration, history)
    candidates = _Candidates(swaps_per_iteration, history, easier)
    train, test, swaps, splits = start.train, start.test, swaps_per_iteration, []
    for iteration in track(range(iterations), "Building splits", iterations, "steps"):
        step = (-1 if easier else 1) * iteration * swaps
        splits.append(split_at(step, start.names, train, test, start.shift(train, test)))
        if iteration + 1 < iterations:
            train, test = exchange(train, test, candidates.pairs(*start.fid.margins(train, test)))
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
    """Make a hard split, such as the last of `published_progression`, harder by removing classes.

    Each iteration tries the exchange of that procedure, whose arguments these are. If it lowers the
    shift, it is kept. Otherwise it is undone and the classes it would have moved are removed from
    both sides. Steps are "R<n>", where n is the number of swaps tried so far. It is an OodmlError
    if fewer than 2 classes would remain on a side.
    """
    start = _Start((train_means, test_means), (train_classes, test_classes), measure)
    settings = start.settings(iterations, swaps_per_iteration, history)
    candidates = _Candidates(swaps_per_iteration, history, easier=False)
    train, test, splits = start.train, start.test, []
    shift = start.shift(train, test)
    for iteration in track(range(iterations), "Building splits", iterations, "steps"):
        step = f"R{iteration * swaps_per_iteration}"
        splits.append(split_at(step, start.names, train, test, shift))
        if iteration + 1 == iterations:
            break
        pairs = candidates.pairs(*start.fid.margins(train, test))
        exchanged = exchange(train, test, pairs)
        exchanged_shift = start.shift(*exchanged)
        if exchanged_shift < shift:
            (train, test), shift = exchanged, exchanged_shift
            continue
        train, test = map(np.delete, (train, test), map(list, zip(*pairs, strict=True)))
        if min(len(train), len(test)) < 2:
            problem = (
                f"removal at step {step} would leave fewer than 2 classes on a side; at most "
                f"{iteration + 1} iterations are possible"
            )
            raise invalid("iterations", iterations, problem)
        shift = start.shift(train, test)
    return Progression(tuple(splits), "removal", measure, settings)


class _Candidates:
    """Chooses the positions to exchange; it skips those used recently on the same side."""

    def __init__(self, count: int, history: int, easier: bool) -> None:
        self._count, self._easier = count, easier
        self._used: tuple[deque[int], deque[int]] = deque(maxlen=history), deque(maxlen=history)

    def pairs(self, train_margins: Matrix, test_margins: Matrix) -> Pairs:
        order = [np.argsort(margin, kind="stable") for margin in (train_margins, test_margins)]
        rankings = [(one[::-1] if self._easier else one).tolist() for one in order]
        return [
            (self._take(0, rankings[0][rank:]), self._take(1, rankings[1][rank:]))
            for rank in range(self._count)
        ]

    def _take(self, side: int, ranking: list[int]) -> int:
        used = self._used[side]
        for position in ranking:
            if position not in used:
                used.append(position)
                return position
        problem = f"history = {used.maxlen} with swaps_per_iteration = {self._count} leaves no"
        remedy = f"{('train', 'test')[side]} class to exchange; lower one of them"
        raise OodmlError(f"{problem} {remedy}", "history", used.maxlen)


def exchange(train: Positions, test: Positions, pairs: Pairs) -> tuple[Positions, Positions]:
    """Copies of both sides in which class i of the first and j of the second are exchanged."""
    train, test = train.copy(), test.copy()
    for i, j in pairs:
        train[i], test[j] = test[j], train[i]
    return train, test


class _Start:
    """The checked input of a procedure: all class means, names, and the positions of both sides."""

    def __init__(self, sets: Sequence[Any], classes: Sequence[Sequence[str]], measure: str) -> None:
        train, test = as_sets(*sets)
        for side, rows, names in zip(("train", "test"), (train, test), classes, strict=True):
            if len(rows) != len(names):
                problem = f"{len(names)} {side} classes for {len(rows)} {side} means"
                raise OodmlError(problem, location=f"{side}_classes")
        sides = [set(map(str, names)) for names in classes]
        self.names = [str(name) for names in classes for name in names]
        if len(set(self.names)) < len(self.names):
            name = next(name for i, name in enumerate(self.names) if name in self.names[:i])
            both = name in sides[0] & sides[1]
            reason = "is in both train and test" if both else "appears twice"
            raise OodmlError(f"class {name!r} {reason}", given=name)
        means = np.concatenate([train, test])
        self.fid = class_mean_fid(means)
        self.shift = progression_measure(measure, means, self.fid)
        self.train: Positions = np.arange(len(train))
        self.test: Positions = np.arange(len(train), len(means))

    def settings(self, iterations: int, swaps: int, history: int) -> dict[str, int | str]:
        """The checked settings, as a progression records them."""
        counts = {"iterations": iterations, "swaps_per_iteration": swaps, "history": history}
        for name, value in counts.items():
            least = 0 if name == "history" else 1
            if value < least:
                raise invalid(name, value, f"it must be at least {least}")
        return {**counts, "fid_by": self.fid.method}


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
    names = [str(name) for name in (*train_classes, *test_classes)]
    means = np.concatenate([train_means, test_means])
    rows: tuple[defaultdict[str, list[int]], ...] = defaultdict(list), defaultdict(list)
    for row, name in enumerate(names):
        if name not in superclass_of:
            raise OodmlError(f"class {name!r} has no superclass", given=name)
        is_test = row >= len(train_classes)
        rows[is_test][f"{('train', 'test')[is_test]}:{superclass_of[name]}"].append(row)
    train, test = (np.stack([means[unit].mean(axis=0) for unit in side.values()]) for side in rows)
    options = iterations, swaps_per_iteration, history, easier
    moved = published_progression(train, test, [*rows[0]], [*rows[1]], *options)
    shift = progression_measure(measure, means, class_mean_fid(means))
    members = rows[0] | rows[1]

    def expand(split: Split) -> Split:
        train, test = (
            np.array([row for unit in side for row in members[unit]])
            for side in (split.train, split.test)
        )
        return split_at(split.step, names, train, test, shift(train, test))

    settings = {**moved.settings, "unit": "superclass of a side"}
    splits = tuple(map(expand, moved))
    return replace(moved, splits=splits, shift_measure=measure, settings=settings)
