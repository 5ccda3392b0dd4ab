"""Models of Recall@1 from signals that need no labels: of each query, and of each target."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

PENALTY = 3.0
"""Weight of the squared coefficients of standardized signals, in units of one target."""
ROUNDS = 15
OFFSET = 0.02
"""Keeps the logits of 0 and 1 finite."""
Values = Float[np.ndarray, " t"]
Column = NDArray[np.float64]
Scaling = tuple[Column, Column, Column, Column]


class LinearModel(NamedTuple):
    """A linear function of signals [s] that are clipped to their range and standardized."""

    low: Column
    high: Column
    center: Column
    scale: Column
    weights: Column
    intercept: float

    def __call__(self, signals: Float[np.ndarray, "n s"]) -> Float[np.ndarray, " n"]:
        """The value of each row of signals."""
        clipped = np.clip(signals, self.low, self.high)
        return np.asarray(((clipped - self.center) / self.scale) @ self.weights + self.intercept)


def to_logit(share: Any) -> Any:
    """The logit of a share between 0 and 1, finite at both ends."""
    share = np.asarray(share, dtype=np.float64)
    return np.log((share + OFFSET) / (1 + OFFSET - share))


def from_logit(logit: Any) -> Any:
    """The inverse of `to_logit`, clipped to 0 and 1."""
    share = (1 + 2 * OFFSET) / (1 + np.exp(-np.asarray(logit, dtype=np.float64))) - OFFSET
    return np.clip(share, 0.0, 1.0)


def fit_ridge(
    x: Float[np.ndarray, "t s"], y: Values, weights: Values, penalty: float = PENALTY
) -> LinearModel:
    """The weighted least-squares line with an L2 penalty on standardized coefficients."""
    z, scaling = _standardized(x, weights)
    intercept = float(np.average(y, weights=weights))
    weighted = z * weights[:, None]
    gram = weighted.T @ z + penalty * np.eye(z.shape[1])
    return LinearModel(*scaling, np.linalg.solve(gram, weighted.T @ (y - intercept)), intercept)


def fit_logistic(
    x: Float[np.ndarray, "t s"], y: Values, weights: Values, penalty: float = PENALTY
) -> LinearModel:
    """Logistic regression with an L2 penalty on standardized coefficients, by Newton's method."""
    z, scaling = _standardized(x, weights)
    z = np.column_stack([z, np.ones(len(x))])
    penalties = np.append(np.full(x.shape[1], penalty), 1e-6)
    solution = np.zeros(z.shape[1])
    for _ in range(ROUNDS):
        share = 1 / (1 + np.exp(-np.clip(z @ solution, -30, 30)))
        gradient = z.T @ (weights * (y - share)) - penalties * solution
        curvature = (z * (weights * share * (1 - share))[:, None]).T @ z + np.diag(penalties)
        step = np.linalg.solve(curvature, gradient)
        solution = solution + step
        if np.abs(step).max() < 1e-6:
            break
    return LinearModel(*scaling, solution[:-1], float(solution[-1]))


def _standardized(x: Float[np.ndarray, "n s"], weights: Values) -> tuple[Column, Scaling]:
    """The signals with mean 0 and variance 1, and their range, center, and scale."""
    center = np.average(x, axis=0, weights=weights)
    variance = np.average((x - center) ** 2, axis=0, weights=weights)
    scale = np.where(variance > 1e-12, np.sqrt(variance), np.inf)
    return (x - center) / scale, (x.min(axis=0), x.max(axis=0), center, scale)


class LevelModel(NamedTuple):
    """Models of the logit of the chance that a query's neighbor is of its class, and of that of
    Recall@1 on a target, from the means of its signals."""

    queries: LinearModel
    targets: LinearModel

    def predict(self, signals: Float[np.ndarray, "q s"]) -> Float[np.ndarray, " 3"]:
        """The logits of Recall@1 by the model of queries, of targets, and the mean of both."""
        by_query = to_logit(self.correct(signals).mean())
        by_target = float(self.targets(signals.mean(axis=0, keepdims=True))[0])
        return np.array([by_query, by_target, (by_query + by_target) / 2])

    def correct(self, signals: Float[np.ndarray, "q s"]) -> Float[np.ndarray, " q"]:
        """The chance that each query's neighbor is of its class."""
        return np.asarray(1 / (1 + np.exp(-self.queries(signals))))


def fit_level(
    signals: Sequence[Float[np.ndarray, "_ s"]], correct: Sequence[Float[np.ndarray, " _"]]
) -> LevelModel:
    """Fit both models to the signals and hits of targets, which have the same weight each.

    A hit is NaN for a query without a partner, which Recall@1 leaves out.
    """
    known = [~np.isnan(values) for values in correct]
    weights = np.concatenate([np.full(k.sum(), 1 / k.sum()) for k in known])
    x, y = (
        np.concatenate([values[k] for values, k in zip(parts, known, strict=True)])
        for parts in (signals, correct)
    )
    queries = fit_logistic(x, y, weights)
    means = np.stack([x.mean(axis=0) for x in signals])
    level = to_logit([np.nanmean(values) for values in correct])
    return LevelModel(queries, fit_ridge(means, level, np.ones(len(means))))
