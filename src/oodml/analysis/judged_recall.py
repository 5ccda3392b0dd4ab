"""Recall@1 from a few judged queries and a model's guesses for all of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, ndtri, stdtrit

from oodml.errors import OodmlError

FOLDS = 5
UNIFORM = 0.5
"""The share of the sampling that does not follow the predicted uncertainty, so that no inverse
weight is more than twice that of simple random sampling."""
Queries = Float[np.ndarray, " n"]
Judged = Float[np.ndarray, " k"]
Rows = Int[np.ndarray, " k"]


class JudgedSample(NamedTuple):
    """Queries to judge, and the chance of each row to be among them."""

    queries: Rows
    probability: Queries


class JudgedValue(NamedTuple):
    """Recall@1 and the bounds of its interval."""

    expected: float
    low: float
    high: float


def sample_queries(correct: Queries, count: int, generator: np.random.Generator) -> JudgedSample:
    """Sample queries without replacement, uncertain ones more often.

    The chance of a query is a mixture of a constant and a multiple of the standard deviation of
    its predicted correctness (Zrnic and Candès, Active Statistical Inference, 2024). Sampling is
    systematic in random order, so exactly `count` queries are drawn with exactly these chances.
    """
    n = len(correct)
    spread = np.sqrt(np.clip(correct * (1 - correct), 1e-4, None))
    mixed = UNIFORM / n + (1 - UNIFORM) * spread / spread.sum()
    probability = _at_most_one(mixed, min(count, n))
    order = generator.permutation(n)
    steps = np.floor(np.cumsum(probability[order]) + generator.random())
    return JudgedSample(np.sort(order[np.diff(steps, prepend=0) > 0]), probability)


def _at_most_one(weights: Queries, count: int) -> Queries:
    """Multiples of the weights that sum to `count`, each limited to 1."""
    probability = weights * count / weights.sum()
    while (probability > 1 + 1e-12).any():
        full = probability >= 1
        rest = count - full.sum()
        probability = np.where(full, 1.0, weights * rest / weights[~full].sum())
    return np.asarray(np.minimum(probability, 1.0))


def judged_recall(
    predicted: Queries,
    judged: Rows,
    answers: Judged,
    probability: Queries,
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
        answers: [k] 1 if the neighbor is of the query's class, 0 if not, NaN if no image is.
        probability: [n] the chance of each query to be sampled.
    """
    partnered = ~np.isnan(answers)
    if (count := int(partnered.sum())) < 2 * FOLDS:
        problem = f"{count} judged queries have a partner; {2 * FOLDS} are required"
        raise OodmlError(problem, "judged", count)
    k, chance = len(judged), probability[judged]
    weight, fold_of = 1 / chance, np.random.default_rng(seed).permutation(k) % FOLDS
    y = np.where(partnered, answers, 0.0)
    total, errors = 0.0, np.zeros(k)
    share = float(np.average(partnered, weights=weight))
    for fold in range(FOLDS):
        own = fold_of == fold
        train = ~own & partnered
        shifted = _recalibrated(predicted, judged[train], answers[train], weight[train])
        total += shifted.mean() * share / FOLDS
        errors[own] = y[own] - shifted[judged[own]] * partnered[own]
    center = (weight * errors).sum() / weight.sum()
    value = (total + center) / share
    spread = np.where(partnered, errors - center, 0.0)
    variance = k / (k - 1) * ((1 - chance) * (weight * spread / len(predicted)) ** 2).sum()
    half = float(stdtrit(k - 1, (1 + level) / 2)) * float(np.sqrt(variance)) / share
    # Where all judged errors are tiny, the variance is not known: the rule of three bounds it.
    bound = 0.5 * -np.log((1 - level) / 2) / k if (y == y[0]).all() else 0.0
    ends = (value, value - max(half, bound), value + max(half, bound))
    return JudgedValue(*(float(np.clip(end, 0, 1)) for end in ends))


def _recalibrated(predicted: Queries, judged: Rows, answers: Judged, weight: Judged) -> Queries:
    """The predictions, shifted in their logit such that they are right on average where judged.

    One positive and one negative answer of a typical weight are added, which limits the shift.
    """
    logits = logit(np.clip(predicted, 0.01, 0.99))
    shift, typical = 0.0, float(weight.mean())
    for _ in range(20):
        chance, prior = expit(logits[judged] + shift), expit(shift)
        gradient = (weight * (answers - chance)).sum() + typical * (1 - 2 * prior)
        curvature = (weight * chance * (1 - chance)).sum() + 2 * typical * prior * (1 - prior)
        shift += float(np.clip(gradient / curvature, -1, 1))
    return np.asarray(expit(logits + shift))


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
    return judged._replace(expected=float(np.clip(expected, judged.low, judged.high)))
