"""The axes on which the shift of unlabeled images is measured."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from oodml.errors import OodmlError
from oodml.vectors import VectorSet


@dataclass(frozen=True)
class Axes:
    """The leading principal axes of a study's features, on which unlabeled shift is measured.

    With fewer dimensions than images, the Fréchet distance depends little on the number of images
    in the target.

    Attributes:
        mean: [d] the mean of the features.
        directions: [d k] the axes.
    """

    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d k"]

    def project(self, vectors: VectorSet) -> VectorSet:
        """The coordinates of the vectors on the axes."""
        if vectors.vectors.shape[1] != len(self.mean):
            raise OodmlError(
                f"the target's vectors have {vectors.vectors.shape[1]} dimensions, and the study's "
                f"features {len(self.mean)}; embed the target with the study's backbone",
                location="target",
                given=vectors.vectors.shape[1],
            )
        projected = (vectors.vectors - self.mean) @ self.directions
        return replace(vectors, vectors=projected.astype(np.float32))


def principal_axes(features: VectorSet, dimensions: int = 32) -> Axes:
    """The axes of largest variance over all images."""
    vectors = features.vectors.astype(np.float64)
    mean = vectors.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov(vectors, rowvar=False).reshape(len(mean), -1))
    return Axes(mean, directions[:, ::-1][:, :dimensions])
