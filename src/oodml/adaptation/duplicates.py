"""Find images that two image sets have in common."""

import numpy as np
from jaxtyping import Bool, Float

from oodml.images.image_set import ImageSet

_TOLERANCE = 1e-5
_CANDIDATES = 5
_BLOCK = 1024


def find_copies(
    images: ImageSet,
    features: Float[np.ndarray, "n f"],
    others: ImageSet,
    other_features: Float[np.ndarray, "m f"],
) -> Bool[np.ndarray, " n"]:
    """Which images have the same pixels as one of the others, whatever their names and formats.

    The features only select candidates; the decoded pixels decide.

    Args:
        features, other_features: [n f], [m f] their features under one network.
    """
    copies = np.zeros(len(images), dtype=bool)
    rows, columns = _unit(features), _unit(other_features)
    for start in range(0, len(rows), _BLOCK):
        distances = 1 - rows[start : start + _BLOCK] @ columns.T
        for row in np.flatnonzero(distances.min(axis=1) < _TOLERANCE):
            order = np.argsort(distances[row])[:_CANDIDATES]
            candidates = order[distances[row][order] < _TOLERANCE]
            copies[start + row] = _is_any(images, start + int(row), others, candidates.tolist())
    return copies


def _unit(features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, np.finfo(np.float32).tiny))


def _is_any(images: ImageSet, row: int, others: ImageSet, candidates: list[int]) -> bool:
    pixels = np.asarray(images.read(row))
    return any(np.array_equal(pixels, np.asarray(others.read(other))) for other in candidates)
