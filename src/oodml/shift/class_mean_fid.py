"""FID of the class means of two sides, for many choices of the sides from the same classes.

`GramFid` and `CovarianceFid` compute the same values. `GramFid` uses the Gram matrix of all class
means. `CovarianceFid` updates the covariance of each side by the classes that moved, which is
cheaper with many more classes than dimensions.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import NDArray

from oodml.shift.distances import Matrix, nuclear_norm, trace_of_root

Positions = NDArray[np.int64]


@runtime_checkable
class ClassMeanFid(Protocol):
    """FID of two sides; each side is given by the positions of its classes among all classes."""

    method: str

    def shift(self, train: Positions, test: Positions) -> float:
        """FID of the class means of the two sides."""

    def margins(self, train: Positions, test: Positions) -> tuple[Matrix, Matrix]:
        """Each class's Euclidean distance to the other side's mean minus that to its own side's."""


def class_mean_fid(means: Num[np.ndarray, "n d"]) -> ClassMeanFid:
    """The cheaper implementation for these class means."""
    return GramFid(means) if len(means) <= 2 * means.shape[1] else CovarianceFid(means)


class GramFid:
    """FID from the Gram matrix [n n] of all class means; each value costs one SVD of a block."""

    method = "gram matrix, singular values"

    def __init__(self, means: Num[np.ndarray, "n d"]) -> None:
        centered = _centered(means)
        self.gram: Matrix = centered @ centered.T

    def shift(self, train: Positions, test: Positions) -> float:
        """FID of the class means of the two sides."""
        block = self.gram[np.ix_(train, test)]
        scale = np.sqrt((len(train) - 1) * (len(test) - 1))
        outer = self._mean_product(train), self._mean_product(test)
        offset = outer[0] + outer[1] - 2 * block.mean()
        spread = self._variance(train, outer[0]) + self._variance(test, outer[1])
        return max(0.0, float(offset + spread - 2 * nuclear_norm(center_block(block)) / scale))

    def margins(self, train: Positions, test: Positions) -> tuple[Matrix, Matrix]:
        """Each class's Euclidean distance to the other side's mean minus that to its own side's."""
        to_train, to_test = self._distances(train), self._distances(test)
        difference = to_test - to_train
        return difference[train], -difference[test]

    def _mean_product(self, side: Positions) -> float:
        return float(self.gram[np.ix_(side, side)].mean())

    def _variance(self, side: Positions, mean_product: float) -> float:
        norms = self.gram[side, side]
        return float(norms.sum() - len(side) * mean_product) / (len(side) - 1)

    def _distances(self, side: Positions) -> Matrix:
        squares = np.diagonal(self.gram) - 2 * self.gram[:, side].mean(axis=1)
        return np.asarray(np.sqrt(np.clip(squares + self._mean_product(side), 0, None)))


class CovarianceFid:
    """FID from the covariance [d d] of each side, updated by the classes that moved."""

    method = "updated covariances, eigenvalues"

    def __init__(self, means: Num[np.ndarray, "n d"]) -> None:
        self._means = _centered(means)
        self._norms = np.einsum("nd,nd->n", self._means, self._means)
        self._train, self._test = _Moments(self._means), _Moments(self._means)

    def shift(self, train: Positions, test: Positions) -> float:
        """FID of the class means of the two sides."""
        offset = self._means[train].mean(axis=0) - self._means[test].mean(axis=0)
        first, second = self._train.covariance(train), self._test.covariance(test)
        spread = np.trace(first) + np.trace(second)
        return max(0.0, float(offset @ offset + spread - 2 * trace_of_root(first, second)))

    def margins(self, train: Positions, test: Positions) -> tuple[Matrix, Matrix]:
        """Each class's Euclidean distance to the other side's mean minus that to its own side's."""
        difference = self._distances(test) - self._distances(train)
        return difference[train], -difference[test]

    def _distances(self, side: Positions) -> Matrix:
        mean = self._means[side].mean(axis=0)
        squares = self._norms - 2 * (self._means @ mean) + mean @ mean
        return np.asarray(np.sqrt(np.clip(squares, 0, None)))


class _Moments:
    """Running sum and sum of outer products of the rows of one side."""

    def __init__(self, rows: Matrix) -> None:
        dim = rows.shape[1]
        self._rows = rows
        self._members = np.zeros(len(rows), dtype=bool)
        self._total, self._scatter = np.zeros(dim), np.zeros((dim, dim))

    def covariance(self, side: Positions) -> Matrix:
        members = np.zeros(len(self._rows), dtype=bool)
        members[side] = True
        if np.count_nonzero(members != self._members) >= len(side):
            self._members[:] = False
            self._total[:], self._scatter[:] = 0, 0
        self._add(members & ~self._members, 1)
        self._add(self._members & ~members, -1)
        self._members = members
        offset = np.outer(self._total, self._total) / len(side)
        return np.asarray((self._scatter - offset) / (len(side) - 1))

    def _add(self, rows: NDArray[np.bool_], sign: int) -> None:
        moved = self._rows[rows]
        self._total += sign * moved.sum(axis=0)
        self._scatter += sign * (moved.T @ moved)


def center_block(block: Float[np.ndarray, "n m"]) -> Matrix:
    """A block of inner products after subtracting the mean of each side."""
    rows, columns = block.mean(axis=1, keepdims=True), block.mean(axis=0, keepdims=True)
    return np.asarray(block - rows - columns + block.mean())


def _centered(means: Num[np.ndarray, "n d"]) -> Matrix:
    """The means minus their overall mean, in float64; this changes only the rounding."""
    rows = np.asarray(means, dtype=np.float64)
    return np.asarray(rows - rows.mean(axis=0))
