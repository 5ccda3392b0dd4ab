"""Chance levels: the value of each metric for embeddings without information."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.evaluate.clustering import cluster_agreement
from oodml.evaluate.retrieval import RETRIEVAL


def chance_metrics(
    positives: Float[np.ndarray, " n"],
    gallery_size: int | Float[np.ndarray, " _"],
    *,
    ks: Iterable[int] = (1, 2, 4, 8),
) -> dict[str, float]:
    """The expected value of each retrieval metric for a random ranking, averaged over queries.

    Args:
        positives: [n] the number of positives of each query; queries with 0 or NaN are excluded.
        gallery_size: the number of images that each query is compared with, without itself; one
            number, or [n] one per query.
        ks: the cut-offs of the metrics that have one.

    Returns:
        The chance level of each metric by its name.
    """
    scored = np.nan_to_num(positives) > 0
    if not scored.any():
        raise OodmlError("chance level: no query has a positive", given=len(positives))
    counts = positives[scored].astype(np.int64)
    sizes = np.broadcast_to(gallery_size, positives.shape)[scored].astype(np.int64)
    functions, totals = RETRIEVAL.expected_values(tuple(ks)), dict[str, float]()
    for size in np.unique(sizes).tolist():
        distinct, frequencies = np.unique(counts[sizes == size], return_counts=True)
        for name, expected in functions.items():
            total = float((expected(distinct, size) * frequencies).sum())
            totals[name] = totals.get(name, 0.0) + total
    return {name: total / len(counts) for name, total in totals.items()}


def chance_clustering(class_sizes: NDArray[np.int64], seed: int = 0) -> dict[str, float]:
    """The clustering metrics of random clusters, as many as there are classes.

    Args:
        class_sizes: [c] the number of images of each class.
        seed: of the one random assignment that is scored. "ami" is 0 by definition.
    """
    classes = np.repeat(np.arange(len(class_sizes)), class_sizes)
    clusters = np.random.default_rng(seed).integers(len(class_sizes), size=len(classes))
    return cluster_agreement(clusters, classes) | {"ami": 0.0}
