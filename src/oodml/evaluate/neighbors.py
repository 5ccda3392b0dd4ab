"""The nearest images of some queries."""

import numpy as np
from jaxtyping import Bool, Float, Int


def nearest_neighbors(
    vectors: Float[np.ndarray, "n d"],
    queries: Int[np.ndarray, " q"],
    k: int,
    gallery: Bool[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, "q k"]:
    """The rows of the k nearest vectors (cosine) of each query, without itself, nearest first.

    `gallery` says which vectors to search, by default all; fewer than k may be left.
    """
    gallery = np.ones(len(vectors), dtype=np.bool_) if gallery is None else gallery
    unit = unit_vectors(vectors)
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    similarity[:, ~gallery] = -np.inf
    most = int(gallery.sum()) - int(gallery[queries].any())
    k, distance = min(k, most), -similarity
    if not 0 < k < len(vectors):
        return np.argsort(distance, axis=1, kind="stable")[:, : max(k, 0)]
    farthest = np.partition(distance, k - 1, axis=1)[:, k - 1]
    near = [np.flatnonzero(row <= limit) for row, limit in zip(distance, farthest, strict=True)]
    order = [
        rows[np.argsort(row[rows], kind="stable")][:k]
        for row, rows in zip(distance, near, strict=True)
    ]
    return np.stack(order) if order else np.empty((0, k), dtype=np.int64)


def nearest_neighbor(
    unit: Float[np.ndarray, "n d"], queries: Int[np.ndarray, " q"] | None = None
) -> Int[np.ndarray, " q"]:
    """The row of the nearest unit vector of each query (default: of all), without itself."""
    similarity = (unit if queries is None else unit[queries]) @ unit.T  # symmetric: half the work
    queries = np.arange(len(unit)) if queries is None else queries
    similarity[np.arange(len(queries)), queries] = -np.inf
    return np.asarray(similarity.argmax(axis=1))


def unit_vectors(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Vectors scaled to length 1; zero vectors stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))
