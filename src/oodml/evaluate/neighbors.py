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
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, 1e-12)
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    similarity[:, ~gallery] = -np.inf
    most = int(gallery.sum()) - int(gallery[queries].any())
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, most)]
