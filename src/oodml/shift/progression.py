"""The published procedures that make splits harder, easier, and harder by removing classes.

Milbich et al., "Characterizing Generalization under Out-of-Distribution Shifts in Deep Metric
Learning", NeurIPS 2021.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Num

from oodml.errors import OodmlError
from oodml.shift.distances import Matrix, checked_sets
from oodml.shift.sides import Positions, sides_of
from oodml.shift.splits import Progression, Split

HISTORY, HISTORY_EASIER = 5, 30


def published_progression(
    train_means: Num[np.ndarray, "n d"],
    test_means: Num[np.ndarray, "m e"],
    train_classes: Sequence[str],
    test_classes: Sequence[str],
    iterations: int = 25,
    swaps_per_iteration: int = 2,
    history: int | None = None,
    easier: bool = False,
) -> Progression:
    """Exchange classes between the sides so that the shift grows (`easier`: falls).

    train_means, test_means: the mean feature of each class, in the order of the class lists.
    iterations: splits recorded, each before its exchange; the first is the start.
    history: a position of a list that took part in the last so many exchanges rests; 5, easier 30.

    Steps are the swaps made so far, negative towards easier. Per iteration the train classes that
    lie nearest to the test mean against their own are exchanged for the test classes nearest to
    the train mean; the exchanged class takes the other's place in the list.
    """
    means, names = _checked(train_means, test_means, train_classes, test_classes)
    if history is None:
        history = HISTORY_EASIER if easier else HISTORY
    _check_counts(iterations, swaps_per_iteration, history)
    sides = sides_of(means)
    train, test = _start(len(train_classes), len(means))
    candidates = _Candidates(swaps_per_iteration, history, easier)
    sign = -1 if easier else 1
    splits = []
    for iteration in range(iterations):
        step = sign * iteration * swaps_per_iteration
        splits.append(_split(names, step, train, test, sides.shift(train, test)))
        if iteration + 1 < iterations:
            train, test = _exchanged(train, test, candidates.pairs(*sides.margins(train, test)))
    settings = _settings(iterations, swaps_per_iteration, history, sides.method)
    return Progression(
        tuple(splits), "published_easier" if easier else "published", settings=settings
    )


def removal_progression(
    train_means: Num[np.ndarray, "n d"],
    test_means: Num[np.ndarray, "m e"],
    train_classes: Sequence[str],
    test_classes: Sequence[str],
    iterations: int = 35,
    swaps_per_iteration: int = 2,
    history: int = HISTORY,
) -> Progression:
    """Go on from a hard split: where an exchange does not lower the FID, remove its classes.

    Takes the class means and classes of the split to start from, e.g. the last one of
    `published_progression`. Each iteration tries the exchange of the published procedure. Did the
    FID fall, the exchange is kept; if not, it is undone and the classes that it would have moved
    leave both sides. Steps are "R<n>" with n the exchanges tried so far.
    """
    means, names = _checked(train_means, test_means, train_classes, test_classes)
    _check_counts(iterations, swaps_per_iteration, history)
    sides = sides_of(means)
    train, test = _start(len(train_classes), len(means))
    candidates = _Candidates(swaps_per_iteration, history, easier=False)
    shift = sides.shift(train, test)
    splits = []
    for iteration in range(iterations):
        step = f"R{iteration * swaps_per_iteration}"
        splits.append(_split(names, step, train, test, shift))
        if iteration + 1 == iterations:
            break
        pairs = candidates.pairs(*sides.margins(train, test))
        exchanged = _exchanged(train, test, pairs)
        exchanged_shift = sides.shift(*exchanged)
        if exchanged_shift < shift:
            (train, test), shift = exchanged, exchanged_shift
            continue
        train, test = _removed(train, test, pairs)
        if min(len(train), len(test)) < 2:
            raise OodmlError(
                f"iterations = {iterations}: at step {step} removal would leave fewer than 2 "
                f"classes on a side; at most {iteration + 1} iterations are possible here"
            )
        shift = sides.shift(train, test)
    settings = _settings(iterations, swaps_per_iteration, history, sides.method)
    return Progression(tuple(splits), "removal", settings=settings)


Pairs = list[tuple[int, int]]


class _Candidates:
    """Chooses the positions to exchange; those used last on either side rest."""

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
        for place in range(rank, len(ranking)):
            if ranking[place] not in used:
                used.append(ranking[place])
                return ranking[place]
        raise OodmlError(
            f"history = {used.maxlen} with swaps_per_iteration = {self._count} leaves no class to "
            f"exchange among the {len(ranking)} {('train', 'test')[side]} classes; lower either"
        )


def _exchanged(train: Positions, test: Positions, pairs: Pairs) -> tuple[Positions, Positions]:
    train, test = train.copy(), test.copy()
    for i, j in pairs:
        train[i], test[j] = test[j], train[i]
    return train, test


def _removed(train: Positions, test: Positions, pairs: Pairs) -> tuple[Positions, Positions]:
    return np.delete(train, [i for i, _ in pairs]), np.delete(test, [j for _, j in pairs])


def _start(n_train: int, n: int) -> tuple[Positions, Positions]:
    return np.arange(n_train), np.arange(n_train, n)


def _split(
    names: list[str], step: int | str, train: Positions, test: Positions, shift: float
) -> Split:
    return Split(step, tuple(names[i] for i in train), tuple(names[i] for i in test), shift)


def _settings(iterations: int, swaps: int, history: int, method: str) -> dict[str, int | str]:
    return {
        "iterations": iterations,
        "swaps_per_iteration": swaps,
        "history": history,
        "fid_by": method,
    }


def _check_counts(iterations: int, swaps: int, history: int) -> None:
    for name, value, least in (
        ("iterations", iterations, 1),
        ("swaps_per_iteration", swaps, 1),
        ("history", history, 0),
    ):
        if value < least:
            raise OodmlError(f"{name} = {value}; it must be at least {least}")


def _checked(
    train_means: Num[np.ndarray, "n d"],
    test_means: Num[np.ndarray, "m e"],
    train_classes: Sequence[str],
    test_classes: Sequence[str],
) -> tuple[Matrix, list[str]]:
    """All class means and names, train first."""
    train, test = checked_sets(train_means, test_means)
    for side, means, classes in (("train", train, train_classes), ("test", test, test_classes)):
        if len(means) != len(classes):
            raise OodmlError(f"{len(classes)} {side} classes for {len(means)} {side} means")
    names = [str(name) for name in (*train_classes, *test_classes)]
    for name in _repeated(names):
        both = name in map(str, train_classes) and name in map(str, test_classes)
        raise OodmlError(f"class {name!r} is {'on both sides' if both else 'named twice'}")
    return np.concatenate([train, test]), names


def _repeated(names: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
