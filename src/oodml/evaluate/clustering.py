"""Clustering: whether k-means with one cluster per class recovers the classes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import gammaln

from oodml.errors import OodmlError, error_at
from oodml.evaluate.inputs import Array, as_labels, as_vectors, check_seed, encode_labels
from oodml.evaluate.metric_family import MetricFamily
from oodml.evaluate.precision import resolved_points
from oodml.results.metrics import check_bounds

_Counts = NDArray[np.float64] | float


@dataclass(frozen=True)
class Contingency:
    """How many images clusters and classes share."""

    shared: NDArray[np.float64]  # images in each non-empty pair of a cluster and a class
    expected: NDArray[np.float64]  # `shared` if clusters and classes were independent
    cluster_sizes: NDArray[np.float64]
    class_sizes: NDArray[np.float64]


CLUSTERING = MetricFamily("clustering")


@CLUSTERING.define("nmi", "NMI", chance="random clusters")
def normalized_mutual_information(table: Contingency) -> float:
    """Mutual information divided by the mean of both entropies."""
    mutual, entropy = _information(table)
    return mutual / entropy if entropy > 0 else 1.0


@CLUSTERING.define("ami", "AMI", bounds=(-1.0, 1.0), chance="random clusters")
def adjusted_mutual_information(table: Contingency) -> float:
    """Mutual information adjusted for chance (Vinh et al., JMLR 2010)."""
    mutual, entropy = _information(table)
    chance = _expected_information(table)
    # One cluster and one class, or one image per cluster and class: the agreement is perfect.
    return (mutual - chance) / (entropy - chance) if entropy - chance > 1e-12 else 1.0


@CLUSTERING.define("f1", "F1", chance="random clusters")
def pair_f1(table: Contingency) -> float:
    """F1 over pairs of images: a pair in one cluster is retrieved, one in one class relevant."""

    def pairs(counts: NDArray[np.float64]) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    retrieved, relevant = pairs(table.cluster_sizes), pairs(table.class_sizes)
    both = retrieved + relevant
    return 2 * pairs(table.shared) / both if both else 1.0


def clustering_metrics(
    vectors: Array,
    labels: Array,
    *,
    seed: int = 0,
    restarts: int = 1,
    assignment: Array | None = None,
    distance: str = "cosine",
) -> dict[str, float]:
    """Compute "nmi" (normalized by the mean of both entropies), "ami" (Vinh et al., JMLR 2010), and
    "f1" (of pairs of one cluster as retrieval of pairs of one label) of a clustering.

    Args:
        vectors, labels: [n d], and [n] integers or strings.
        seed, restarts: of k-means with as many clusters as there are labels; the best run counts.
        assignment: [n] a cluster per row to score instead of running k-means.
        distance: "cosine" clusters unit vectors, others the vectors as given.

    Raises:
        OodmlError: if vectors are not finite or, with "cosine", zero; if shapes do not match.
    """
    check_seed(seed, bits=31)
    rows = as_vectors(vectors, distance)
    names, (classes,) = encode_labels(as_labels(labels, len(rows)))
    if assignment is not None:
        assigned = as_labels(assignment, len(rows), "assignment")
        return cluster_agreement(encode_labels(assigned)[1][0], classes)
    points = resolved_points(rows, distance != "cosine").cpu().numpy()
    return cluster_agreement(kmeans(points, len(names), seed=seed, restarts=restarts), classes)


def kmeans(
    vectors: Float[np.ndarray, "n d"], n_clusters: int, *, seed: int = 0, restarts: int = 1
) -> Int[np.ndarray, " n"]:
    """Cluster vectors with faiss: 20 iterations on all points, the best of `restarts` runs."""
    import faiss

    n, width = vectors.shape
    if not 1 <= n_clusters <= n:
        problem = f"{n_clusters} clusters for {n} vectors; allowed: 1 to {n}"
        raise OodmlError(problem, "n_clusters", n_clusters)
    if restarts < 1:
        raise error_at("restarts", f"{restarts}; allowed: from 1", restarts)
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": n}
    search = faiss.Kmeans(width, n_clusters, niter=20, nredo=restarts, seed=seed, **limits)
    points = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.abs(points).max() < 1e15:  # faiss ends the process if a distance is not finite
        raise OodmlError("k-means: the vectors are too long; scale them", location="kmeans")
    try:
        search.train(points)
        return np.asarray(search.index.search(points, 1)[1][:, 0], dtype=np.int64)
    except RuntimeError as error:  # the only type of exception that faiss raises
        raise OodmlError(f"k-means failed: {error}", location="kmeans") from error


def cluster_agreement(clusters: NDArray[np.int64], classes: NDArray[np.int64]) -> dict[str, float]:
    """Compute "nmi", "ami", and "f1" of two assignments [n] of integers from 0."""
    sizes, class_sizes = (np.bincount(one).astype(np.float64) for one in (clusters, classes))
    pairs, shared = np.unique(clusters * len(class_sizes) + classes, return_counts=True)
    rows, columns = np.divmod(pairs, len(class_sizes))
    expected = sizes[rows] * class_sizes[columns] / len(classes)
    counted = shared.astype(np.float64)
    table = Contingency(counted, expected, sizes[sizes > 0], class_sizes[class_sizes > 0])
    functions = CLUSTERING.functions()
    return {name: check_bounds(name, function(table)) for name, function in functions.items()}


def chance_clustering(class_sizes: NDArray[np.int64], seed: int = 0) -> dict[str, float]:
    """The clustering metrics of one random assignment, for class sizes [c]; "ami" is 0."""
    classes = np.repeat(np.arange(len(class_sizes)), class_sizes)
    clusters = np.random.default_rng(seed).integers(len(class_sizes), size=len(classes))
    return cluster_agreement(clusters, classes) | {"ami": 0.0}


def _information(table: Contingency) -> tuple[float, float]:
    """Mutual information, and the mean of the two entropies, in nats."""
    n = table.shared.sum()
    mutual = float((table.shared / n * np.log(table.shared / table.expected)).sum())
    sides = (table.cluster_sizes, table.class_sizes)
    entropies = [-(sizes / n * np.log(sizes / n)).sum() for sizes in sides]
    return max(mutual, 0.0), float(np.mean(entropies))


def _expected_information(table: Contingency) -> float:
    """The expected mutual information of random clusters and classes of these sizes (Vinh 2010)."""
    n, total = table.shared.sum(), 0.0
    sizes_b, times_b = np.unique(table.class_sizes, return_counts=True)
    for size, times in zip(*np.unique(table.cluster_sizes, return_counts=True), strict=True):
        shared = np.arange(1, size + 1)[:, None]
        possible = (shared <= sizes_b) & (shared >= size + sizes_b - n)
        inside = np.where(possible, shared, np.maximum(1, size + sizes_b - n))
        inside = np.minimum(inside, np.minimum(size, sizes_b))
        either = _log_choose(sizes_b, inside) + _log_choose(n - sizes_b, size - inside)
        log_probability = either - _log_choose(n, size)
        terms = inside / n * np.log(n * inside / (size * sizes_b)) * np.exp(log_probability)
        total += float((times * times_b * np.where(possible, terms, 0.0)).sum())
    return total


def _log_choose(n: _Counts, k: _Counts) -> _Counts:
    value: _Counts = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return value
