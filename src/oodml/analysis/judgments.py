"""Recall@1 from a few judged queries and a model's guesses for all of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit, ndtri, stdtrit

from oodml.errors import OodmlError

FOLDS = 5
UNIFORM = 0.5
"""The share of the sampling that does not follow the predicted uncertainty, so that no inverse
weight is more than twice that of simple random sampling."""


class JudgedSample(NamedTuple):
    """Queries to judge, and the chance of each row to be among them."""

    queries: Int[np.ndarray, " k"]
    probability: Float[np.ndarray, " n"]


class JudgedValue(NamedTuple):
    """Recall@1 and the bounds of its interval."""

    expected: float
    low: float
    high: float


def sample_queries(
    correct: Float[np.ndarray, " n"], count: int, generator: np.random.Generator
) -> JudgedSample:
    """Sample queries without replacement, uncertain ones more often.

    The chance of a query is a mixture of a constant and a multiple of the standard deviation of
    its predicted correctness (Zrnic and Candès, Active Statistical Inference, 2024). Sampling is
    systematic in random order, so exactly `count` queries are drawn with exactly these chances.

    `correct` [n] is the predicted chance that each query's neighbor is of its class.
    """
    n = len(correct)
    count = min(count, n)
    spread = np.sqrt(np.clip(correct * (1 - correct), 1e-4, None))
    mixed = UNIFORM / n + (1 - UNIFORM) * spread / spread.sum()
    probability = _at_most_one(mixed, count)
    order = generator.permutation(n)
    steps = np.floor(np.cumsum(probability[order]) + generator.random())
    taken = np.diff(steps, prepend=0) > 0
    taken[0] |= steps[0] > 0
    return JudgedSample(np.sort(order[taken]), probability)


def _at_most_one(weights: Float[np.ndarray, " n"], count: int) -> Float[np.ndarray, " n"]:
    """Multiples of the weights that sum to `count`, each limited to 1."""
    probability = weights * count / weights.sum()
    while (probability > 1 + 1e-12).any():
        full = probability >= 1
        rest = count - full.sum()
        probability = np.where(full, 1.0, weights * rest / weights[~full].sum())
    return np.asarray(np.minimum(probability, 1.0))


def judged_recall(
    predicted: Float[np.ndarray, " n"],
    judged: Int[np.ndarray, " k"],
    answers: Float[np.ndarray, " k"],
    probability: Float[np.ndarray, " n"],
    level: float = 0.9,
    seed: int = 0,
) -> JudgedValue:
    """Estimate Recall@1 from judged queries, with the predictions for all queries.

    The mean prediction is corrected by the weighted errors on judged queries (prediction-powered
    inference; Angelopoulos et al., Science 2023). Predictions are first recalibrated on the judged
    queries of the other folds, so the interval is valid for any predictions.

    Args:
        predicted: [n] the predicted chance that each query's neighbor is of its class.
        judged: [k] the rows of the judged queries.
        answers: [k] 1 if the neighbor is of the query's class, 0 if not, and NaN if no other image
            is, so that Recall@1 leaves the query out.
        probability: [n] the chance of each query to be sampled.

    Raises:
        OodmlError: if fewer than 10 queries with a partner are judged.
    """
    partnered = ~np.isnan(answers)
    if partnered.sum() < 2 * FOLDS:
        raise OodmlError(
            f"{int(partnered.sum())} judged queries have a partner; {2 * FOLDS} are required",
            location="judged",
            given=int(partnered.sum()),
        )
    n = len(predicted)
    weight = 1 / probability[judged]
    fold_of = np.random.default_rng(seed).permutation(len(judged)) % FOLDS
    y = np.where(partnered, answers, 0.0)
    total, errors = 0.0, np.zeros(len(judged))
    share = float(np.average(partnered, weights=weight))
    for fold in range(FOLDS):
        own = fold_of == fold
        train = ~own & partnered
        shifted = recalibrated(predicted, judged[train], answers[train], weight[train])
        total += shifted.mean() * share / FOLDS
        errors[own] = y[own] - shifted[judged[own]] * partnered[own]
    value = (total + (weight * errors).sum() / weight.sum()) / share
    return _interval(value, errors, y, partnered, weight, probability[judged], n, level)


def recalibrated(
    predicted: Float[np.ndarray, " n"],
    judged: Int[np.ndarray, " k"],
    answers: Float[np.ndarray, " k"],
    weight: Float[np.ndarray, " k"],
) -> Float[np.ndarray, " n"]:
    """The predictions, shifted in their logit such that they are right on average where judged.

    One positive and one negative answer of a typical weight are added, which limits the shift.
    """
    logits = logit(np.clip(predicted, 0.01, 0.99))
    shift, typical = 0.0, float(weight.mean())
    for _ in range(20):
        chance = expit(logits[judged] + shift)
        prior = expit(shift)
        gradient = (weight * (answers - chance)).sum() + typical * (1 - 2 * prior)
        curvature = (weight * chance * (1 - chance)).sum() + 2 * typical * prior * (1 - prior)
        shift += float(np.clip(gradient / curvature, -1, 1))
    return np.asarray(expit(logits + shift))


def _interval(
    value: float,
    errors: Float[np.ndarray, " k"],
    y: Float[np.ndarray, " k"],
    partnered: Bool[np.ndarray, " k"],
    weight: Float[np.ndarray, " k"],
    probability: Float[np.ndarray, " k"],
    n: int,
    level: float,
) -> JudgedValue:
    """A Student interval from the spread of the weighted errors, with the finite population."""
    k = len(errors)
    center = (weight * errors).sum() / weight.sum()
    residual = (weight * np.where(partnered, errors - center, 0.0)) / n
    variance = k / (k - 1) * ((1 - probability) * residual**2).sum()
    share = float(np.average(partnered, weights=weight))
    half = float(stdtrit(k - 1, (1 + level) / 2)) * np.sqrt(variance) / share
    # Where all judged errors are tiny, the variance is not known: the rule of three bounds it.
    half = max(half, 0.5 * -np.log((1 - level) / 2) / k if (y == y[0]).all() else 0.0)
    return JudgedValue(
        float(np.clip(value, 0, 1)), float(max(value - half, 0)), float(min(value + half, 1))
    )


def combine(judged: JudgedValue, forecast: JudgedValue) -> JudgedValue:
    """The judged value, moved toward a forecast in proportion to their precision.

    The bounds stay those of the judged value (a 90% interval), which are valid whatever the
    forecast (with an 80% interval) is.
    """
    own, other = (
        ((value.high - value.low) / 2 / quantile) ** 2 + 1e-9
        for value, quantile in ((judged, ndtri(0.95)), (forecast, ndtri(0.9)))
    )
    expected = (judged.expected / own + forecast.expected / other) / (1 / own + 1 / other)
    return JudgedValue(float(np.clip(expected, judged.low, judged.high)), judged.low, judged.high)


def agreement(first: Int[np.ndarray, " k"], second: Int[np.ndarray, " k"]) -> tuple[float, float]:
    """The share of equal answers of two people, and Cohen's kappa."""
    values = np.unique(np.concatenate([first, second]))
    same = float((first == second).mean())
    chance = sum(float((first == v).mean() * (second == v).mean()) for v in values)
    return same, (same - chance) / (1 - chance) if chance < 1 else 1.0
