from dataclasses import replace

import numpy as np
import pytest

from oodml.analysis.target_shift import principal_axes
from oodml.errors import OodmlError
from oodml.vectors import VectorSet


def _features(n_classes: int = 20, each: int = 10, d: int = 6) -> VectorSet:
    generator = np.random.default_rng(2)
    centers = generator.normal(size=(n_classes, d))
    centers[:, 0] += np.linspace(-4, 4, n_classes)
    labels = np.repeat(np.arange(n_classes), each)
    vectors = centers[labels] + generator.normal(0, 0.3, (len(labels), d))
    return VectorSet(
        vectors.astype(np.float32),
        np.array([f"c{label:02d}" for label in labels]),
        np.array([f"i{k}" for k in range(len(labels))]),
    )


def test_principal_axes_keep_distances_when_all_are_kept() -> None:
    features = _features()
    projected = principal_axes(features, 6).project(features).vectors
    for i, j in ((0, 50), (3, 199)):
        before = np.linalg.norm(features.vectors[i] - features.vectors[j])
        assert np.linalg.norm(projected[i] - projected[j]) == pytest.approx(before, rel=1e-4)
    assert (np.diff(projected.var(axis=0)) < 1e-6).all()


def test_other_features_are_refused() -> None:
    features = _features()
    with pytest.raises(OodmlError, match="4 dimensions"):
        principal_axes(features).project(replace(features, vectors=features.vectors[:, :4]))
