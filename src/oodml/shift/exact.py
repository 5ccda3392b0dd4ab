"""Splits by exact search: each step makes the one swap that changes the shift most."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.shift.distances import Matrix
from oodml.shift.sides import GramSides, Positions
from oodml.shift.splits import Progression, Split
from oodml.shift.start import standard_train
from oodml.shift.swaps import swap_shifts

# The grid of swaps is held in memory some forty times over; this is about 1 GiB.
MOST_SWAPS = 3_000_000
_SURE = 8
_REST = 3


def exact_progression(
    means: Num[np.ndarray, "n d"],
    classes: Sequence[str],
    n_splits: int | None = 5,
    *,
    train: Sequence[str] | None = None,
    harder: int | None = None,
    easier: int | None = None,
    ends: tuple[float, float] | None = None,
    images: Num[np.ndarray, " m"] | None = None,
    image_tolerance: float | None = None,
    patience: int = 10,
) -> Progression:
    """Splits at evenly spaced FID of the class means, from easiest to hardest.

    means, classes: the mean feature and the name of each class.
    n_splits: how many; fewer if the search passes through fewer. None keeps every one.
    train: the train classes of the start; None is the first half of the sorted names.
    harder, easier: swaps at most in either direction; None goes on until none helps.
    ends: lowest and highest FID wanted; None is what the search reaches.
    images, image_tolerance: images a class, and by what share the number of train images may
        differ from the start's; the numbers of classes never change.
    patience: where no swap helps, so many are made all the same, of classes that did not move
        lately; if a new extreme comes of it, the search goes on from there.

    Every step takes the swap, among all of one train and one test class, that raises (easier:
    lowers) the FID most. The shifts after all swaps are evaluated (`swaps.swap_shifts`) and the
    best ones again exactly, until none left can be better. Steps count swaps, negative towards
    easier.
    """
    search = _Search(means, classes, images, image_tolerance)
    start = search.start(standard_train(classes) if train is None else train)
    path = [
        *search.walk(start, -1, easier, patience)[:0:-1],
        *search.walk(start, 1, harder, patience),
    ]
    if ends is not None:
        path = _between(path, ends)
    settings: dict[str, int | float | str | bool] = {
        "harder": _text(harder),
        "easier": _text(easier),
        "patience": patience,
        "evaluation": "all swaps by quadrature, the best by singular values",
    }
    if image_tolerance is not None:
        settings["image_tolerance"] = image_tolerance
    picked = path if n_splits is None else evenly_spaced(path, n_splits)
    return Progression(tuple(picked), "exact", settings=settings)


def evenly_spaced(splits: Sequence[Split], count: int) -> list[Split]:
    """At most `count` of the splits, nearest to evenly spaced shifts from least to greatest.

    In the order of their shift. Both ends are kept where count allows.
    """
    if count < 1:
        raise OodmlError(f"n_splits = {count}; it must be at least 1")
    ordered = sorted(splits, key=lambda split: split.shift)
    shifts = np.array([split.shift for split in ordered])
    targets = np.linspace(shifts[0], shifts[-1], count)
    free = np.ones(len(ordered), dtype=bool)
    for target in targets[np.argsort(-np.abs(targets - targets.mean()), kind="stable")]:
        if free.any():
            free[np.argmin(np.where(free, np.abs(shifts - target), np.inf))] = False
    return [split for split, left in zip(ordered, free, strict=True) if not left]


class _Search:
    """The class means' Gram matrix and the limits to keep."""

    def __init__(
        self,
        means: Num[np.ndarray, "n d"],
        classes: Sequence[str],
        images: Num[np.ndarray, " m"] | None,
        image_tolerance: float | None,
    ) -> None:
        self._names = [str(name) for name in classes]
        _check(means, self._names, images, image_tolerance)
        self._sides = GramSides(means)
        self._images = None if image_tolerance is None else images
        self._tolerance = image_tolerance

    def start(self, train: Sequence[str]) -> tuple[Positions, Positions]:
        """Positions of the train classes and of all others, sorted by name."""
        position = {name: place for place, name in enumerate(self._names)}
        for name in train:
            if name not in position:
                raise OodmlError(f"train class {name!r} is not among the classes")
        chosen = {position[name] for name in train}
        order = sorted(range(len(self._names)), key=lambda place: self._names[place])
        first = np.array([place for place in order if place in chosen], dtype=np.int64)
        second = np.array([place for place in order if place not in chosen], dtype=np.int64)
        if min(len(first), len(second)) < 2:
            raise OodmlError(
                f"{len(first)} train and {len(second)} test classes; each side needs at least 2"
            )
        if len(first) * len(second) > MOST_SWAPS:
            raise OodmlError(
                f"{len(first)} × {len(second)} swaps are too many to search exactly (at most "
                f"{MOST_SWAPS:,}); use the published procedure"
            )
        return first, second

    def walk(
        self, sides: tuple[Positions, Positions], sign: int, most: int | None, patience: int
    ) -> list[Split]:
        """The splits from the start to the last extreme, each a swap from the one before."""
        train, test = sides
        shift = self._sides.shift(train, test)
        quota = None if self._images is None else float(self._images[train].sum())
        splits, extreme, last = [self._split(0, train, test, shift)], shift, 0
        moved: deque[int] = deque(maxlen=2 * _REST)
        while (most is None or len(splits) <= most) and len(splits) <= last + patience + 1:
            estimates = sign * swap_shifts(self._sides.gram, train, test)
            estimates[~self._allowed(train, test, quota)] = -np.inf
            best = self._best_swap(train, test, sign, estimates)
            if best is None or not _better(best[1], extreme, sign):
                estimates[np.isin(train, moved)] = -np.inf
                estimates[:, np.isin(test, moved)] = -np.inf
                best = self._best_swap(train, test, sign, estimates)
            if best is None or (patience == 0 and not _better(best[1], extreme, sign)):
                break
            moved.extend(np.setxor1d(train, best[0][0]).tolist())
            (train, test), shift = best
            splits.append(self._split(sign * len(splits), train, test, shift))
            if _better(shift, extreme, sign):
                extreme, last = shift, len(splits) - 1
        return splits[: last + 1]

    def _best_swap(
        self, train: Positions, test: Positions, sign: int, estimates: Matrix
    ) -> tuple[tuple[Positions, Positions], float] | None:
        best: tuple[tuple[Positions, Positions], float] | None = None
        error = 0.0
        for rank, flat in enumerate(np.argsort(-estimates, axis=None, kind="stable")):
            estimate = estimates.flat[flat]
            if not np.isfinite(estimate):
                break
            # No estimate is off by more than twice what the best ones were.
            if best and rank >= _SURE and estimate + 2 * error < sign * best[1]:
                break
            sides = _swapped(train, test, *divmod(int(flat), len(test)))
            shift = self._sides.shift(*sides)
            error = max(error, abs(estimate - sign * shift))
            if best is None or sign * (shift - best[1]) > 0:
                best = sides, shift
        return best

    def _allowed(self, train: Positions, test: Positions, quota: float | None) -> NDArray[np.bool_]:
        if self._images is None or self._tolerance is None or quota is None:
            return np.ones((len(train), len(test)), dtype=bool)
        now = float(self._images[train].sum())
        after = now - self._images[train][:, None] + self._images[test][None, :]
        return np.asarray(np.abs(after - quota) <= self._tolerance * quota)

    def _split(self, step: int, train: Positions, test: Positions, shift: float) -> Split:
        names = self._names
        return Split(step, tuple(names[i] for i in train), tuple(names[i] for i in test), shift)


def _swapped(train: Positions, test: Positions, i: int, j: int) -> tuple[Positions, Positions]:
    train, test = train.copy(), test.copy()
    train[i], test[j] = test[j], train[i]
    return train, test


def _between(path: list[Split], ends: tuple[float, float]) -> list[Split]:
    low, high = ends
    shifts = [split.shift for split in path]
    if not low < high:
        raise OodmlError(f"ends = {ends}; the first must be below the second")
    if low < min(shifts) or high > max(shifts):
        raise OodmlError(
            f"ends = {ends}; the search reaches FIDs from {min(shifts):.4g} to {max(shifts):.4g}"
        )
    nearest = [min(shifts, key=lambda shift: abs(shift - end)) for end in ends]
    return [split for split in path if nearest[0] <= split.shift <= nearest[1]]


def _better(shift: float, than: float, sign: int) -> bool:
    """By more than a rounding error, which must not keep a search going."""
    return sign * (shift - than) > 1e-10 * abs(than)


def _check(
    means: Num[np.ndarray, "n d"],
    names: list[str],
    images: Num[np.ndarray, " m"] | None,
    image_tolerance: float | None,
) -> None:
    if len(means) != len(names):
        raise OodmlError(f"{len(names)} classes for {len(means)} means")
    if len(set(names)) < len(names):
        raise OodmlError(f"class {max(names, key=names.count)!r} is named twice")
    if not np.isfinite(means).all():
        raise OodmlError("the class means are not all finite")
    if image_tolerance is not None and image_tolerance < 0:
        raise OodmlError(f"image_tolerance = {image_tolerance}; it must be at least 0")
    if image_tolerance is not None and images is None:
        raise OodmlError("image_tolerance needs `images`, the number of images of each class")
    if images is not None and len(images) != len(names):
        raise OodmlError(f"{len(images)} numbers of images for {len(names)} classes")


def _text(most: int | None) -> int | str:
    return "until no swap helps" if most is None else most
