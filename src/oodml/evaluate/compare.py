"""Which of two models is better on a test set, by how much, and with what confidence."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError, invalid, unknown
from oodml.evaluate.inputs import Array, as_labels, check_seed, encode_labels
from oodml.evaluate.query_lists import QueryLists, retrieval_arguments
from oodml.evaluate.retrieval import retrieval_metrics

BLOCK = 500


@dataclass(frozen=True)
class Comparison:
    """One metric of two models on the same queries."""

    metric: str
    a: float
    b: float
    difference: float  # a - b
    low: float  # of the confidence interval of the difference
    high: float
    probability: float  # the share of resamples in which a is better; ties count half


def compare(
    a: Array,
    b: Array,
    labels: Array,
    *,
    metrics: Iterable[str] = ("recall@1", "map@r", "map"),
    ks: Iterable[int] = (1, 2, 4, 8),
    distance: str = "cosine",
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
    lists: QueryLists | None = None,
    **protocol: Any,
) -> list[Comparison]:
    """Compare two models by their embeddings of the same images.

    The interval is a paired bootstrap over classes. Images of a class depend on each other, so
    classes are resampled with all their queries, and both models are scored on the same resample.
    The gallery does not change.

    Args:
        a, b: [n d] and [n e] the vectors of the two models, of the same images in the same order.
        labels: [n] integers or strings.
        metrics, ks: names of metrics that `retrieval_metrics` returns, and its cut-offs.
        seed: of the resamples and of the order of ties.
        lists: which rows are queries and which the gallery; by default each searches all others.
        protocol: `relevance` as in `retrieval_metrics`.

    Raises:
        OodmlError: for an unknown metric, or if the models have different numbers of rows.
    """
    if len(a) != len(b):
        problem = f"a has {len(a)} vectors and b has {len(b)}; both must have the same images"
        raise OodmlError(problem, given=(len(a), len(b)))
    if not 0 < confidence < 1:
        raise invalid("confidence", confidence, "it must be between 0 and 1")
    if resamples < 1:
        raise invalid("resamples", resamples, "it must be at least 1")
    check_seed(seed)
    options = {"ks": tuple(ks), "distance": distance, "seed": seed, "per_query": True, **protocol}
    labels = as_labels(labels, len(a))
    arguments = [retrieval_arguments(vectors, labels, lists) for vectors in (a, b)]
    values = [retrieval_metrics(**one, **options) for one in arguments]
    _, (classes,) = encode_labels(arguments[0]["labels"])
    comparisons = []
    for metric in metrics:
        if metric not in values[0]:
            raise unknown("metric", metric, values[0])
        pair = (values[0][metric], values[1][metric])
        comparisons.append(compare_values(metric, *pair, classes, seed, resamples, confidence))
    return comparisons


def compare_values(
    metric: str,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    classes: NDArray[np.int64],
    seed: int,
    resamples: int,
    confidence: float = 0.95,
) -> Comparison:
    """Compare the values [n] of one metric for the same queries; NaN is left out."""
    scored = ~np.isnan(a)
    _, group = np.unique(classes[scored], return_inverse=True)
    counts = np.bincount(group).astype(np.float64)
    gains = np.bincount(group, a[scored] - b[scored])
    differences = np.concatenate(
        [(draws @ gains) / (draws @ counts) for draws in class_draws(len(counts), resamples, seed)]
    )
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    means = (float(a[scored].mean()), float(b[scored].mean()), float(gains.sum() / counts.sum()))
    probability = float((differences > 0).mean() + (differences == 0).mean() / 2)
    return Comparison(metric, *means, float(low), float(high), probability)


def class_draws(n_classes: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each class is drawn in each resample, in blocks of resamples."""
    generator = np.random.default_rng(seed)
    for begin in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - begin)
        picks = generator.integers(n_classes, size=(size, n_classes))
        flat = (picks + np.arange(size)[:, None] * n_classes).ravel()
        yield np.bincount(flat, minlength=size * n_classes).reshape(size, -1).astype(np.float64)
