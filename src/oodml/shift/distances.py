"""The Fréchet distance between sets of vectors ("FID", Heusel et al. 2017), also of class means.

`GramFid` and `CovarianceFid` compute the same values for many choices of two sides from the same
classes. `GramFid` uses the Gram matrix of all class means. `CovarianceFid` updates the covariance
of each side by the classes that moved, which is cheaper with many more classes than dimensions.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
from jaxtyping import Float, Num
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from oodml.errors import OodmlError

Matrix = NDArray[np.float64]
Positions = NDArray[np.int64]
_SMALL = 256
# Below this ratio of the smallest to the largest pivot, the symmetric eigenvalue form, which
# squares the singular values, would lose too many digits.
_WELL_CONDITIONED = 1e-5


def limit_threads(size: int) -> AbstractContextManager[Any]:
    """A context that limits linear algebra to one thread if matrices have few (`size`) rows."""
    if size > _SMALL:
        return nullcontext()
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


_controller = cache(ThreadpoolController)


def frechet_distance(a: Num[np.ndarray, "n d"], b: Num[np.ndarray, "m e"]) -> float:
    """The Fréchet distance ‖μ₁−μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, covariances with n−1.

    In squared units of the vectors [n d], [m d]. Computed in float64 from singular values, without
    a matrix root and without the 1e-8·I that implementations with `sqrtm` add.

    Raises:
        OodmlError: if a set has fewer than two rows or values that are not finite, or if the
            widths differ.
    """
    first, second = as_sets(a, b)
    offset = first.mean(axis=0) - second.mean(axis=0)
    a_rows, b_rows = (
        (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (first, second)
    )
    spread = np.sum(a_rows**2) + np.sum(b_rows**2)
    if min(len(first), len(second)) > first.shape[1]:
        root = trace_of_root(a_rows.T @ a_rows, b_rows.T @ b_rows)
    else:
        root = nuclear_norm(_compact(a_rows) @ _compact(b_rows).T)
    return max(0.0, float(offset @ offset + spread - 2 * root))


def as_sets(a: Num[np.ndarray, "n d"], b: Num[np.ndarray, "m e"]) -> tuple[Matrix, Matrix]:
    """Convert both sets to float64."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, rows in (("first", first), ("second", second)):
        if len(rows) < 2:
            problem = f"the {name} set has {len(rows)} rows; a covariance needs at least 2"
            raise OodmlError(problem, f"{name} set", len(rows))
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            problem = f"row {bad[0]} of the {name} set is not finite ({len(bad)} such rows)"
            raise OodmlError(problem, location=f"row {bad[0]} of the {name} set")
    widths = first.shape[1], second.shape[1]
    if widths[0] != widths[1]:
        problem = f"the sets have {widths[0]} and {widths[1]} dimensions; they must be equal"
        raise OodmlError(problem, given=widths)
    return first, second


def nuclear_norm(matrix: Float[np.ndarray, "n m"]) -> float:
    """The sum of the singular values."""
    with limit_threads(min(matrix.shape)):
        return float(np.linalg.svd(matrix, compute_uv=False).sum())


def trace_of_root(sigma1: Float[np.ndarray, "d d"], sigma2: Float[np.ndarray, "d d"]) -> float:
    """tr (Σ₁Σ₂)^½ of two covariances.

    With Σ₁ = LLᵀ, the eigenvalues of Σ₁Σ₂ are those of the symmetric LᵀΣ₂L. If either is nearly
    singular, this is the sum of the singular values of F₁ᵀF₂ with Σ = FFᵀ, without squaring them.
    """
    lower = _cholesky(sigma1)
    if lower is None or _cholesky(sigma2) is None:
        return nuclear_norm(_factor(sigma1).T @ _factor(sigma2))
    eigenvalues = scipy.linalg.eigvalsh(lower.T @ sigma2 @ lower, check_finite=False)
    return float(np.sqrt(np.clip(eigenvalues, 0, None)).sum())


def _compact(rows: Matrix) -> Matrix:
    """A matrix of at most d rows with the same RᵀR."""
    return rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))


def _cholesky(sigma: Matrix) -> Matrix | None:
    try:
        lower: Matrix = np.asarray(np.linalg.cholesky(sigma), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    pivots = np.diagonal(lower) ** 2
    return lower if pivots.min() > _WELL_CONDITIONED * pivots.max() else None


def _factor(sigma: Matrix) -> Matrix:
    eigenvalues, vectors = np.linalg.eigh(sigma)
    noise = len(sigma) * np.finfo(np.float64).eps * max(eigenvalues[-1], 0.0)
    positive = eigenvalues > noise
    return np.asarray(vectors[:, positive] * np.sqrt(eigenvalues[positive]))


class ClassMeanFid:
    """FID of two sides; each side is given by the positions of its classes among all classes."""

    method: ClassVar[str]

    def shift(self, train: Positions, test: Positions) -> float:
        """FID of the class means of the two sides."""
        raise NotImplementedError

    def margins(self, train: Positions, test: Positions) -> tuple[Matrix, Matrix]:
        """Each class's Euclidean distance to the other side's mean minus that to its own side's."""
        difference = self._distances(test) - self._distances(train)
        return difference[train], -difference[test]

    def _distances(self, side: Positions) -> Matrix:
        raise NotImplementedError


def class_mean_fid(means: Num[np.ndarray, "n d"]) -> ClassMeanFid:
    """The cheaper implementation for these class means."""
    return GramFid(means) if len(means) <= 2 * means.shape[1] else CovarianceFid(means)


class GramFid(ClassMeanFid):
    """FID from the Gram matrix [n n] of all class means; each value costs one SVD of a block."""

    method = "gram matrix, singular values"

    def __init__(self, means: Num[np.ndarray, "n d"]) -> None:
        centered = _centered(means)
        self.gram: Matrix = centered @ centered.T

    def shift(self, train: Positions, test: Positions) -> float:
        block = self.gram[np.ix_(train, test)]
        scale = np.sqrt((len(train) - 1) * (len(test) - 1))
        products, variances = [], []
        for side in (train, test):
            products.append(self._mean_product(side))
            trace = self.gram[side, side].sum()
            variances.append(float(trace - len(side) * products[-1]) / (len(side) - 1))
        offset, spread = products[0] + products[1] - 2 * block.mean(), variances[0] + variances[1]
        return max(0.0, float(offset + spread - 2 * nuclear_norm(center_block(block)) / scale))

    def _mean_product(self, side: Positions) -> float:
        return float(self.gram[np.ix_(side, side)].mean())

    def _distances(self, side: Positions) -> Matrix:
        squares = np.diagonal(self.gram) - 2 * self.gram[:, side].mean(axis=1)
        return np.asarray(np.sqrt(np.clip(squares + self._mean_product(side), 0, None)))


class CovarianceFid(ClassMeanFid):
    """FID from the covariance [d d] of each side, updated by the classes that moved."""

    method = "updated covariances, eigenvalues"

    def __init__(self, means: Num[np.ndarray, "n d"]) -> None:
        self._means = _centered(means)
        self._norms = np.einsum("nd,nd->n", self._means, self._means)
        self._train, self._test = _Moments(self._means), _Moments(self._means)

    def shift(self, train: Positions, test: Positions) -> float:
        offset = self._means[train].mean(axis=0) - self._means[test].mean(axis=0)
        first, second = self._train.covariance(train), self._test.covariance(test)
        spread = np.trace(first) + np.trace(second)
        return max(0.0, float(offset @ offset + spread - 2 * trace_of_root(first, second)))

    def _distances(self, side: Positions) -> Matrix:
        mean = self._means[side].mean(axis=0)
        squares = self._norms - 2 * (self._means @ mean) + mean @ mean
        return np.asarray(np.sqrt(np.clip(squares, 0, None)))


class _Moments:
    """Running sum and sum of outer products of the rows of one side."""

    def __init__(self, rows: Matrix) -> None:
        dim = rows.shape[1]
        self._rows, self._members = rows, np.zeros(len(rows), dtype=bool)
        self._total, self._scatter = np.zeros(dim), np.zeros((dim, dim))

    def covariance(self, side: Positions) -> Matrix:
        members = np.zeros(len(self._rows), dtype=bool)
        members[side] = True
        if np.count_nonzero(members != self._members) >= len(side):
            self._members[:] = False
            self._total[:], self._scatter[:] = 0, 0
        for changed, sign in ((members & ~self._members, 1), (self._members & ~members, -1)):
            moved = self._rows[changed]
            self._total += sign * moved.sum(axis=0)
            self._scatter += sign * (moved.T @ moved)
        self._members = members
        offset = np.outer(self._total, self._total) / len(side)
        return np.asarray((self._scatter - offset) / (len(side) - 1))


def center_block(block: Float[np.ndarray, "n m"]) -> Matrix:
    """A block of inner products after subtracting the mean of each side."""
    rows, columns = block.mean(axis=1, keepdims=True), block.mean(axis=0, keepdims=True)
    return np.asarray(block - rows - columns + block.mean())


def _centered(means: Num[np.ndarray, "n d"]) -> Matrix:
    """The means minus their overall mean, in float64; this changes only the rounding."""
    rows = np.asarray(means, dtype=np.float64)
    return np.asarray(rows - rows.mean(axis=0))
