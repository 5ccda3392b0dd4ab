"""How difficult a set of classes is for retrieval, whatever a model was trained on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from oodml.arrays import Names
from oodml.errors import OodmlError


class Difficulty(NamedTuple):
    """What sets the level of Recall@1 on a target.

    Attributes:
        images: the number of images.
        classes: the number of classes.
        images_per_class: their mean number of images.
        spacing: the mean distance of a class mean to the nearest other class mean, on vectors of
            length 1. It is smaller for more, and for more similar classes.
    """

    images: int
    classes: int
    images_per_class: float
    spacing: float


def difficulty(vectors: Float[np.ndarray, "n d"], classes: Names) -> Difficulty:
    """Measure the difficulty of a set of classes.

    Args:
        vectors: [n d] features of a frozen network.
        classes: [n] the class of each image.

    Raises:
        OodmlError: for fewer than two classes.
    """
    names, labels = np.unique(np.asarray(classes), return_inverse=True)
    if len(names) < 2:
        raise OodmlError(
            "difficulty requires at least two classes", location="classes", given=len(names)
        )
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sums = np.zeros((len(names), unit.shape[1]))
    np.add.at(sums, labels, unit)
    means = sums / np.bincount(labels)[:, None]
    squares = (means**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * means @ means.T
    np.fill_diagonal(distances, np.inf)
    spacing = float(np.sqrt(np.maximum(distances.min(axis=1), 0)).mean())
    return Difficulty(len(labels), len(names), len(labels) / len(names), spacing)
