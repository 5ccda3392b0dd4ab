"""Splits by exact search: each step makes the single swap that changes the shift most."""

from collections import deque
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from oodml.errors import OodmlError, invalid
from oodml.progress import Progress
from oodml.shift.distances import GramFid, Matrix, Positions, center_block, limit_threads
from oodml.shift.measures import STANDARD_MEASURE, progression_measure
from oodml.shift.progression import exchange
from oodml.shift.splits import Progression, Split, split_at, standard_train_classes

# The search needs about forty arrays of one float64 per swap; this is about 1 GiB.
MOST_SWAPS = 3_000_000
_ALWAYS_EVALUATED = 8
_RESTING_SWAPS = 3
_STEP = 0.8
_BEYOND = 20.0
_RANK = 1e-9
_LAPLACE: list[tuple[Any, ...]] = [
    (i, j, *sorted({0, 1, 2, 3} - {i, j}), np.add if (i + j) % 2 else np.subtract)
    for i, j in combinations(range(4), 2)
]
"""Expansion of a determinant along two rows: their columns, the columns of the others, the sign."""
Forms = tuple[Matrix, Matrix, Matrix]


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
    measure: str = STANDARD_MEASURE,
) -> Progression:
    """Splits at evenly spaced shifts, from easiest to hardest, by searching all swaps.

    Each step makes the swap of one train and one test class that raises the shift most (or lowers
    it most, toward easier splits). The FIDs after all swaps are estimated together
    (`swap_shifts`); the best candidates are then computed exactly until no other can be better.
    A split's step is the number of swaps, negative toward easier.

    Args:
        means, images: [n d] the mean feature of each class, and [n] its number of images.
        n_splits: the number of splits, fewer if the search visits fewer; None returns all.
        train: the train classes to start from; None is the first half of the sorted names.
        harder, easier: the largest number of swaps in each direction; None searches until no
            swap helps.
        ends: the lowest and highest shift wanted; None is the range that the search reaches.
        image_tolerance: the largest relative change of the number of train images.
        patience: when no swap helps, this many are made anyway, of classes that have not moved
            recently; the search continues if they lead to a new extreme.
        measure: the registered measure of class means; any except the standard one is computed
            for every swap, which is feasible for tens of classes.

    Raises:
        OodmlError: if the input is inconsistent, or the classes are too many to search.
    """
    search = _Search(means, classes, images, image_tolerance, measure)
    start = search.start(standard_train_classes(classes) if train is None else train)
    easy, hard = search.walk(start, -1, easier, patience), search.walk(start, 1, harder, patience)
    path = [*easy[:0:-1], *hard]
    if ends is not None:
        shifts = [split.shift for split in path]
        if not ends[0] < ends[1]:
            raise invalid("ends", ends, "the first must be below the second")
        if ends[0] < min(shifts) or ends[1] > max(shifts):
            problem = f"the search reaches FIDs from {min(shifts):.4g} to {max(shifts):.4g}"
            raise invalid("ends", ends, problem)
        low, high = (min(shifts, key=lambda shift: abs(shift - end)) for end in ends)
        path = [split for split in path if low <= split.shift <= high]
    settings: dict[str, int | float | str | bool] = {
        "harder": "until no swap helps" if harder is None else harder,
        "easier": "until no swap helps" if easier is None else easier,
        "patience": patience,
        "evaluation": "all swaps by quadrature, the best by singular values",
    }
    if image_tolerance is not None:
        settings["image_tolerance"] = image_tolerance
    picked = path if n_splits is None else evenly_spaced(path, n_splits)
    return Progression(tuple(picked), "exact", measure, settings)


def evenly_spaced(splits: Sequence[Split], count: int) -> list[Split]:
    """At most `count` splits, both ends included, whose shifts are closest to evenly spaced."""
    if count < 1:
        raise invalid("n_splits", count, "it must be at least 1")
    ordered = sorted(splits, key=lambda split: split.shift)
    shifts = np.array([split.shift for split in ordered])
    targets = np.linspace(shifts[0], shifts[-1], count)
    free = np.ones(len(ordered), dtype=bool)
    for target in targets[np.argsort(-np.abs(targets - targets.mean()), kind="stable")]:
        if free.any():
            free[np.argmin(np.where(free, np.abs(shifts - target), np.inf))] = False
    return [split for split, left in zip(ordered, free, strict=True) if not left]


class _Search:
    def __init__(
        self,
        means: Num[np.ndarray, "n d"],
        classes: Sequence[str],
        images: Num[np.ndarray, " m"] | None,
        tolerance: float | None,
        measure: str,
    ) -> None:
        self._names = names = [str(name) for name in classes]
        if len(means) != len(names):
            raise OodmlError(f"{len(names)} classes for {len(means)} means", location="classes")
        if len(set(names)) < len(names):
            name = max(names, key=names.count)
            raise OodmlError(f"class {name!r} appears twice", location="classes", given=name)
        if not np.isfinite(means).all():
            raise OodmlError("the class means are not all finite", location="means")
        if tolerance is not None and tolerance < 0:
            raise invalid("image_tolerance", tolerance, "it must be at least 0")
        if images is None and tolerance is not None:
            problem = "image_tolerance needs `images`, the number of images of each class"
            raise OodmlError(problem, location="images")
        if images is not None and len(images) != len(names):
            problem = f"{len(images)} numbers of images for {len(names)} classes"
            raise OodmlError(problem, location="images")
        self._fid = GramFid(means)
        self._estimated = measure == STANDARD_MEASURE
        self._shift = progression_measure(measure, means, self._fid)
        self._images, self._tolerance = images, tolerance

    def start(self, train: Sequence[str]) -> tuple[Positions, Positions]:
        """Positions of the train classes and of all others, each sorted by name."""
        for name in train:
            if name not in self._names:
                problem = f"train class {name!r} is not among the classes"
                raise OodmlError(problem, location="train", given=name)
        order = np.array(sorted(range(len(self._names)), key=lambda row: self._names[row]))
        chosen = np.isin(np.array(self._names)[order], train)
        first, second = order[chosen], order[~chosen]
        counts = len(first), len(second)
        if min(counts) < 2:
            problem = "{} train and {} test classes; each side needs at least 2"
            raise OodmlError(problem.format(*counts), given=counts)
        if counts[0] * counts[1] > MOST_SWAPS:
            raise OodmlError(
                f"{counts[0]} × {counts[1]} swaps are too many for the exact search (limit "
                f'{MOST_SWAPS:,}); use procedure = "published"',
                given=counts[0] * counts[1],
            )
        return first, second

    def walk(
        self, sides: tuple[Positions, Positions], sign: int, most: int | None, patience: int
    ) -> list[Split]:
        """The splits from the start to the last extreme, one swap apart."""
        train, test = sides
        shift = self._shift(train, test)
        quota = 0.0 if self._images is None else float(self._images[train].sum())
        splits, extreme, last = [split_at(0, self._names, train, test, shift)], shift, 0
        moved: deque[int] = deque(maxlen=2 * _RESTING_SWAPS)
        progress = Progress("Building splits", None, "exchanges")
        while (most is None or len(splits) <= most) and len(splits) <= last + patience + 1:
            estimates = sign * self._swap_shifts(train, test)
            if self._images is not None and self._tolerance is not None:
                now = float(self._images[train].sum())
                after = now - self._images[train][:, None] + self._images[test][None, :]
                estimates[np.abs(after - quota) > self._tolerance * quota] = -np.inf
            best = self._best_swap(train, test, sign, estimates)
            if best is None or not _is_better(best[1], extreme, sign):
                estimates[np.isin(train, moved)] = -np.inf
                estimates[:, np.isin(test, moved)] = -np.inf
                best = self._best_swap(train, test, sign, estimates)
            if best is None or (patience == 0 and not _is_better(best[1], extreme, sign)):
                break
            moved.extend(np.setxor1d(train, best[0][0]).tolist())
            (train, test), shift = best
            splits.append(split_at(sign * len(splits), self._names, train, test, shift))
            progress.advance()
            if _is_better(shift, extreme, sign):
                extreme, last = shift, len(splits) - 1
        return splits[: last + 1]

    def _swap_shifts(self, train: Positions, test: Positions) -> Matrix:
        if self._estimated and np.any(center_block(self._fid.gram[np.ix_(train, test)])):
            return swap_shifts(self._fid.gram, train, test)
        swaps = np.ndindex(len(train), len(test))
        shifts = [self._shift(*exchange(train, test, [swap])) for swap in swaps]
        return np.array(shifts).reshape(len(train), len(test))

    def _best_swap(
        self, train: Positions, test: Positions, sign: int, estimates: Matrix
    ) -> tuple[tuple[Positions, Positions], float] | None:
        best: tuple[tuple[Positions, Positions], float] | None = None
        error = 0.0
        for rank, flat in enumerate(np.argsort(-estimates, axis=None, kind="stable")):
            estimate = estimates.flat[flat]
            # No estimate is off by more than twice the error of the best ones.
            done = best and rank >= _ALWAYS_EVALUATED and estimate + 2 * error < sign * best[1]
            if done or not np.isfinite(estimate):
                break
            sides = exchange(train, test, [divmod(int(flat), len(test))])
            shift = self._shift(*sides)
            error = max(error, abs(estimate - sign * shift))
            if best is None or sign * (shift - best[1]) > 0:
                best = sides, shift
        return best


def _is_better(shift: float, than: float, sign: int) -> bool:
    """Whether the shift is better by more than a rounding error, so that the search ends."""
    return sign * (shift - than) > 1e-10 * abs(than)


def swap_shifts(
    gram: Float[np.ndarray, "c c"], train: Positions, test: Positions
) -> Float[np.ndarray, "n m"]:
    """FID of the class means after swapping train class i and test class j, for every i and j.

    With A, B the centered class means of the two sides, M = A Bᵀ, and δ the difference of the
    classes, a swap adds a matrix of rank two to M:  M' = M + P Qᵀ,  P = [hᵢ, Aδ],
    Q = [Bδ − |δ|²hⱼ, −hⱼ], hᵢ a centered unit vector. The change of the sum of singular values is
    an integral of 4×4 determinants,

        ‖M'‖ − ‖M‖ = 1/π ∫₀^∞ log det [[I + Tᵀ, −y QᵀEQ], [y PᵀFP, I + T]] dy,
        F = (MMᵀ + y²)⁻¹,  E = (MᵀM + y²)⁻¹,  T = PᵀMEQ,

    since ∫₀^∞ log (s'² + y²)/(s² + y²) dy = π (s' − s). In log y the integrand is analytic in a
    strip of width π, so the trapezoid rule with step h has an error of about exp(−π²/h), and a few
    dozen points suffice. All swaps share the points: a grid of n×m swaps costs n×m small
    determinants per point instead of n×m singular value decompositions.

    Returns:
        FIDs, accurate to about 1e-5 of their scale.
    """
    with limit_threads(min(len(train), len(test))):
        parts = _Parts(gram, train, test)
        nuclear = parts.nuclear + _nuclear_changes(parts)
    scale = np.sqrt((len(train) - 1) * (len(test) - 1))
    return np.asarray(_means_and_variances(gram, train, test) - 2 * nuclear / scale)


def _means_and_variances(gram: Matrix, train: Positions, test: Positions) -> Matrix:
    """The terms of the FID other than the singular values, after each swap: [n m]."""
    n, m = len(train), len(test)
    block = gram[np.ix_(train, test)]
    a, b = gram[train, train][:, None], gram[test, test][None, :]
    own_a = gram[np.ix_(train, train)].sum(axis=1)[:, None]
    own_b = gram[np.ix_(test, test)].sum(axis=0)[None, :]
    other_a, other_b = block.sum(axis=1)[:, None], block.sum(axis=0)[None, :]
    difference = a + b - 2 * block
    sums = own_a.sum() + difference - 2 * own_a + 2 * other_b
    sums_test = own_b.sum() + difference - 2 * own_b + 2 * other_a
    across = block.sum() - other_b + own_a - other_a + own_b - difference
    norms, norms_test = a.sum() - a + b, b.sum() - b + a
    offset = sums / n**2 + sums_test / m**2 - 2 * across / (n * m)
    spread = (norms - sums / n) / (n - 1) + (norms_test - sums_test / m) / (m - 1)
    return np.asarray(offset + spread)


class _Parts:
    """M before the swap and the components of P and Q, in the basis of M's singular vectors."""

    def __init__(self, gram: Matrix, train: Positions, test: Positions) -> None:
        block = gram[np.ix_(train, test)]
        u, s, vt = np.linalg.svd(center_block(block), full_matrices=True)
        self.nuclear, self.scale = float(s.sum()), float(s[0])
        # Rounding turns zero singular values of a rank-deficient block into small ones.
        self.least = float(s[s > _RANK * s[0]][-1])
        self.s = s
        self.s_train, self.s_test = (np.pad(s, (0, size - len(s))) for size in block.shape)
        self.h_train, self.h_test = (u - u.mean(axis=0)).T, (vt.T - vt.T.mean(axis=0)).T
        self.to_train = u.T @ (gram[train] - gram[train].mean(axis=0))
        self.to_test = vt @ (gram[test] - gram[test].mean(axis=0))
        self.train, self.test = train, test
        norms = np.diagonal(gram)
        self.squares = norms[train][:, None] + norms[test][None, :] - 2 * block


def _nuclear_changes(parts: _Parts) -> Matrix:
    low = np.log(parts.least) - np.log(_BEYOND)
    count = int(np.ceil((np.log(parts.scale) + np.log(_BEYOND) - low) / _STEP)) + 1
    change = np.zeros_like(parts.squares)
    for k in range(count):
        y = float(np.exp(low + k * _STEP))
        # Outside this range the integrand is constant or 1/y², so the tails are geometric series.
        ends = (1 / np.expm1(_STEP)) * ((k == 0) + (k == count - 1))
        change += _STEP * y * (1 + ends) * _log_determinant(parts, y)
    return np.asarray(change / np.pi)


def _log_determinant(parts: _Parts, y: float) -> Matrix:
    p, q, t = _forms(parts, y)
    top = (
        (1 + t[0][0], t[1][0], -y * q[0], -y * q[1]),
        (t[0][1], 1 + t[1][1], -y * q[1], -y * q[2]),
    )
    low = ((y * p[0], y * p[1], 1 + t[0][0], t[0][1]), (y * p[1], y * p[2], t[1][0], 1 + t[1][1]))
    determinant = np.zeros_like(parts.squares)
    for i, j, k, m, add in _LAPLACE:
        minor = top[0][i] * top[1][j] - top[0][j] * top[1][i]
        minor *= low[0][k] * low[1][m] - low[0][m] * low[1][k]
        add(determinant, minor, out=determinant)
    return np.asarray(np.log(np.maximum(determinant, np.finfo(np.float64).tiny)))


def _forms(parts: _Parts, y: float) -> tuple[Forms, Forms, list[list[Matrix]]]:
    """PᵀFP and QᵀEQ (three entries each, symmetric) and T = PᵀMEQ of every swap."""
    f, e = 1 / (parts.s_train**2 + y**2), 1 / (parts.s_test**2 + y**2)
    g, rank, d2 = parts.s / (parts.s**2 + y**2), len(parts.s), parts.squares
    h_p, h_q, a, b = parts.h_train, parts.h_test, parts.to_train, parts.to_test
    left, right = parts.train, parts.test
    fa, eb = f[:, None] * a, e[:, None] * b

    h_f_h = np.einsum("kn,k,kn->n", h_p, f, h_p)[:, None]
    h_e_h = np.einsum("km,k,km->m", h_q, e, h_q)[None, :]
    h_f_a = h_p.T @ fa
    p12 = h_f_a[:, right] - np.diagonal(h_f_a[:, left])[:, None]
    p = (np.broadcast_to(h_f_h, d2.shape), p12, _squares(a, fa, left, right))

    h_e_b = h_q.T @ eb
    along = np.diagonal(h_e_b[:, right])[None, :] - h_e_b[:, left].T
    q11 = _squares(b, eb, left, right) - 2 * d2 * along + d2**2 * h_e_h
    q = (q11, d2 * h_e_h - along, np.broadcast_to(h_e_h, d2.shape))

    g_h, g_b = (g[:, None] * side[:rank] for side in (h_q, b))
    h_g_h, h_g_b = h_p[:rank].T @ g_h, h_p[:rank].T @ g_b
    a_g_h, a_g_b = a[:rank].T @ g_h, a[:rank].T @ g_b
    row = h_g_b[:, right] - np.diagonal(h_g_b[:, left])[:, None]
    column = np.diagonal(a_g_h[right])[None, :] - a_g_h[left]
    # (x_b − x_a)ᵀ MEM (x_b − x_a) for every class a of the one and b of the other side
    norms = np.diagonal(a_g_b)
    across = a_g_b[np.ix_(left, right)] + a_g_b[np.ix_(right, left)].T
    both = norms[left][:, None] + norms[right][None, :] - across
    return p, q, [[row - d2 * h_g_h, -h_g_h], [both - d2 * column, -column]]


def _squares(x: Matrix, fx: Matrix, left: Positions, right: Positions) -> Matrix:
    norms = np.einsum("kc,kc->c", x, fx)
    across = x[:, left].T @ fx[:, right]
    return np.asarray(norms[left][:, None] + norms[right][None, :] - 2 * across)
