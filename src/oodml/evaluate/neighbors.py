"""The nearest images of some queries."""

import numpy as np
from jaxtyping import Float, Int


def nearest_neighbors(
    vectors: Float[np.ndarray, "n d"], queries: Int[np.ndarray, " q"], k: int
) -> Int[np.ndarray, "q k"]:
    """The rows of the k nearest vectors (cosine) of each query, nearest first.

    Args:
        vectors: [n d] the vectors to search in.
        queries: [q] the rows of the queries; a query is not its own neighbor.
        k: the number of neighbors, at most n-1.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, 1e-12)
    similarity = unit[queries] @ unit.T
    similarity[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(vectors) - 1)]
