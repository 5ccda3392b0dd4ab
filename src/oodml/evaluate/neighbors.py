"""The nearest images of some queries."""

import numpy as np
from jaxtyping import Bool, Float, Int


def nearest_neighbors(
    vectors: Float[np.ndarray, "n d"],
    queries: Int[np.ndarray, " q"],
    k: int,
    gallery: Bool[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, "q k"]:
    """The rows of the k nearest vectors (cosine) of each query, nearest first.

    Args:
        vectors: [n d] the vectors to search in.
        queries: [q] the rows of the queries; a query is not its own neighbor.
        k: the number of neighbors, at most n-1.
        gallery: [n] which vectors to search; by default all.
    """
    gallery = np.ones(len(vectors), dtype=np.bool_) if gallery is None else gallery
    unit = unit_vectors(vectors)
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    similarity[:, ~gallery] = -np.inf
    most = int(gallery.sum()) - int(gallery[queries].any())
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, most)]


def nearest_neighbor(
    unit: Float[np.ndarray, "n d"], queries: Int[np.ndarray, " q"]
) -> Int[np.ndarray, " q"]:
    """The row of the nearest unit vector of each query, without the query itself."""
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    return np.asarray(similarity.argmax(axis=1))


def unit_vectors(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Vectors scaled to length 1; zero vectors stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))
