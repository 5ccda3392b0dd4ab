"""Clustering: whether k-means with as many clusters as classes finds the classes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import gammaln

from oodml.errors import OodmlError
from oodml.evaluate.inputs import Array, as_labels, as_vectors, codes

ITERATIONS = 20
_Counts = NDArray[np.float64] | float


def clustering_metrics(
    vectors: Array,
    labels: Array,
    *,
    seed: int = 0,
    restarts: int = 1,
    assignment: Array | None = None,
    distance: str = "cosine",
) -> dict[str, float]:
    """ "nmi", "ami" and "f1" of a clustering of vectors [n d] against labels [n].

    The clustering is k-means with as many clusters as labels, the best of `restarts` drawn from
    `seed`, on unit vectors ("cosine") or on vectors as given; or `assignment` [n], if given.
    "nmi": mutual information over the mean of both entropies. "ami": the same, adjusted for
    chance (Vinh et al., JMLR 2010). "f1": of pairs, where a pair in one cluster is a find and
    a pair of one label is what should be found.

    Raises `OodmlError` for vectors that are not finite or, with "cosine", zero.
    """
    found = as_vectors(vectors, distance)
    names, (classes,) = codes(as_labels(labels, len(found)))
    if assignment is None:
        points = found.float().cpu().numpy()
        clusters = kmeans(points, len(names), seed=seed, restarts=restarts)
    else:
        _, (clusters,) = codes(as_labels(assignment, len(found), "assignment"))
    return agreement(clusters, classes)


def kmeans(
    vectors: Float[np.ndarray, "n d"], n_clusters: int, *, seed: int = 0, restarts: int = 1
) -> Int[np.ndarray, " n"]:
    """The cluster of each vector by faiss: 20 iterations, all points used, best of `restarts`."""
    import faiss

    if not 1 <= n_clusters <= len(vectors):
        raise OodmlError(f"{n_clusters} clusters for {len(vectors)} vectors; allowed: 1 to as many")
    if restarts < 1:
        raise OodmlError(f"restarts: {restarts}; allowed: from 1")
    search = faiss.Kmeans(
        vectors.shape[1],
        n_clusters,
        niter=ITERATIONS,
        nredo=restarts,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    points = np.ascontiguousarray(vectors, dtype=np.float32)
    search.train(points)
    return np.asarray(search.index.search(points, 1)[1][:, 0], dtype=np.int64)


@dataclass(frozen=True)
class _Contingency:
    """Images in each pair of cluster and class that has any, in each cluster, in each class."""

    both: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    expected: NDArray[np.float64]  # of `both`, were the two independent


def agreement(clusters: NDArray[np.int64], classes: NDArray[np.int64]) -> dict[str, float]:
    """ "nmi", "ami" and "f1" of two labellings [n], integers from 0."""
    n = len(classes)
    left, right = (np.bincount(values).astype(np.float64) for values in (clusters, classes))
    pairs, both = np.unique(clusters * len(right) + classes, return_counts=True)
    expected = left[pairs // len(right)] * right[pairs % len(right)] / n
    table = _Contingency(both.astype(np.float64), left[left > 0], right[right > 0], expected)
    return {"nmi": _nmi(table), "ami": _ami(table), "f1": _pair_f1(table)}


def _information(table: _Contingency) -> tuple[float, float]:
    """Mutual information, and the mean of the two entropies, in nats."""
    n = table.both.sum()
    mutual = float((table.both / n * np.log(table.both / table.expected)).sum())
    entropies = [-(side / n * np.log(side / n)).sum() for side in (table.left, table.right)]
    return max(mutual, 0.0), float(np.mean(entropies))


def _nmi(table: _Contingency) -> float:
    mutual, entropy = _information(table)
    return mutual / entropy if entropy > 0 else 1.0


def _ami(table: _Contingency) -> float:
    mutual, entropy = _information(table)
    chance = _expected_information(table)
    # Nothing to find and nothing found, or each image alone on both sides: agreement is full.
    return (mutual - chance) / (entropy - chance) if entropy - chance > 1e-12 else 1.0


def _expected_information(table: _Contingency) -> float:
    """Mutual information that random clusters and classes of these sizes share on average.

    The number of images in both is hypergeometric; equal sizes are summed once.
    """
    n = table.both.sum()
    sizes = [np.unique(side, return_counts=True) for side in (table.left, table.right)]
    (a, a_times), (b, b_times) = sizes
    total = 0.0
    for size, times in zip(a, a_times, strict=True):
        common = np.arange(1, size + 1)[:, None]
        possible = (common <= b) & (common >= size + b - n)
        inside = np.where(possible, common, np.maximum(1, size + b - n))
        inside = np.minimum(inside, np.minimum(size, b))
        log_probability = (
            _log_choose(b, inside) + _log_choose(n - b, size - inside) - _log_choose(n, size)
        )
        terms = inside / n * np.log(n * inside / (size * b)) * np.exp(log_probability)
        total += float((times * b_times * np.where(possible, terms, 0.0)).sum())
    return total


def _log_choose(n: _Counts, k: _Counts) -> _Counts:
    value: _Counts = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return value


def _pair_f1(table: _Contingency) -> float:
    def pairs(counts: NDArray[np.float64]) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    found, wanted = pairs(table.left), pairs(table.right)
    return 2 * pairs(table.both) / (found + wanted) if found + wanted else 1.0
