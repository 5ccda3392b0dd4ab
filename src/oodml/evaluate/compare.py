"""Which of two models is better on a test set, by how much, and how sure that is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError, unknown
from oodml.evaluate.inputs import Array, as_labels, encode_labels
from oodml.evaluate.retrieval import retrieval_metrics

BLOCK = 500


@dataclass(frozen=True)
class Comparison:
    """One metric of two models on the same queries.

    difference: a - b. low, high: its interval at the confidence asked for.
    probability: the share of resamples in which a is better, ties counted half.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    probability: float


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
    **protocol: Any,
) -> list[Comparison]:
    """Compare two models by their vectors a [n d] and b [n e] of the same images, row by row.

    The interval is a paired bootstrap over classes: images of a class stand and fall together,
    so that classes are drawn, with all their queries, and both models are scored on the same
    draw (percentiles of `resamples` draws from `seed`). The gallery stays as it is.
    metrics: names that `retrieval_metrics(…, ks=ks)` gives. protocol: `relevance` as it takes it.

    Raises `OodmlError` for an unknown metric and where the models have other numbers of rows.
    """
    if len(a) != len(b):
        raise OodmlError(f"a has {len(a)} vectors, b {len(b)}; they must be of the same images")
    if not 0 < confidence < 1 or resamples < 1:
        raise OodmlError(
            f"confidence {confidence} and resamples {resamples}; allowed: between 0 and 1; from 1"
        )
    cutoffs = tuple(ks)
    values = [
        retrieval_metrics(
            vectors, labels, ks=cutoffs, distance=distance, seed=seed, per_query=True, **protocol
        )
        for vectors in (a, b)
    ]
    _, (classes,) = encode_labels(as_labels(labels, len(a)))
    compared = []
    for metric in metrics:
        if metric not in values[0]:
            raise unknown("metric", metric, values[0])
        pair = (values[0][metric], values[1][metric])
        compared.append(_compared(metric, *pair, classes, seed, resamples, confidence))
    return compared


def _compared(
    metric: str,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    classes: NDArray[np.int64],
    seed: int,
    resamples: int,
    confidence: float,
) -> Comparison:
    asked = ~np.isnan(a)
    _, group = np.unique(classes[asked], return_inverse=True)
    counts = np.bincount(group).astype(np.float64)
    gains = np.bincount(group, a[asked] - b[asked])
    drawn = np.concatenate(
        [(draws @ gains) / (draws @ counts) for draws in _draws(len(counts), resamples, seed)]
    )
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Comparison(
        metric,
        float(a[asked].mean()),
        float(b[asked].mean()),
        float(gains.sum() / counts.sum()),
        float(low),
        float(high),
        float((drawn > 0).mean() + (drawn == 0).mean() / 2),
    )


def _draws(n_classes: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each class is drawn, a block of resamples at a time."""
    generator = np.random.default_rng(seed)
    for begin in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - begin)
        picks = generator.integers(n_classes, size=(size, n_classes))
        flat = (picks + np.arange(size)[:, None] * n_classes).ravel()
        yield np.bincount(flat, minlength=size * n_classes).reshape(size, -1).astype(np.float64)
