"""Small made-up data for the tests of shift."""

import numpy as np

from oodml.shift.splits import Split
from oodml.vectors import VectorSet


def clustered(n_classes: int, n_images: int = 4, dim: int = 16, seed: int = 0) -> VectorSet:
    """Classes in four superclasses that lie apart."""
    generator = np.random.default_rng(seed)
    groups = np.arange(n_classes) % 4
    centres = 2 * generator.normal(size=(4, dim))[groups] + generator.normal(size=(n_classes, dim))
    vectors = np.repeat(centres, n_images, axis=0)
    vectors = vectors + generator.normal(size=vectors.shape)
    classes = np.array([f"c{i:03d}" for i in range(n_classes)]).repeat(n_images)
    ids = np.array([f"{name}/{i % n_images}" for i, name in enumerate(classes)])
    superclasses = np.array([f"s{group}" for group in groups]).repeat(n_images)
    return VectorSet(vectors.astype(np.float32), classes, ids, superclasses, {"data": "made up"})


def class_lists(split: Split) -> tuple[list[str], list[str]]:
    return list(split.train), list(split.test)
