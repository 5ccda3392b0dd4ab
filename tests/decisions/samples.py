"""Labeled vectors around class means."""

import numpy as np

from oodml.vectors import VectorSet


def clusters(
    classes: int = 8, each: int = 6, width: int = 8, noise: float = 0.6, seed: int = 0
) -> VectorSet:
    """Gaussian classes; odd and even ones form two superclasses."""
    draw = np.random.default_rng(seed)
    names = np.repeat([f"c{c:02d}" for c in range(classes)], each)
    means = draw.normal(size=(classes, width)).repeat(each, axis=0)
    vectors = (means + noise * draw.normal(size=means.shape)).astype(np.float32)
    ids = np.array([f"{name}/{row}" for row, name in enumerate(names)])
    groups = np.array([f"g{int(name[1:]) % 2}" for name in names])
    return VectorSet(vectors, names, ids, groups)
