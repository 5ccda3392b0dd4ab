import numpy as np
import pytest
from sklearn.decomposition import PCA

from oodml.report.splits_figures import class_map, class_sides
from oodml.shift.splits import Split
from oodml.vectors import VectorSet


def _features(dimensions: int = 5) -> VectorSet:
    generator = np.random.default_rng(1)
    classes = np.array([f"c{k // 4:02d}" for k in range(48)])
    vectors = generator.normal(size=(48, dimensions)).astype(np.float32)
    return VectorSet(vectors, classes, np.array([f"i{k}" for k in range(48)]), classes)


def test_points_are_principal_components_of_class_means() -> None:
    features = _features()
    drawn = class_map(features)
    reference = PCA(2).fit(features.class_means())
    expected = reference.transform(features.class_means())
    expected /= np.abs(expected).max()
    np.testing.assert_allclose(np.abs(drawn.points), np.abs(expected), atol=1e-9)
    assert drawn.explained == pytest.approx(reference.explained_variance_ratio_.sum())


def test_the_sample_is_nearest_to_its_class_mean() -> None:
    features = _features()
    drawn = class_map(features)
    for name, sample, mean in zip(
        drawn.classes, drawn.samples, features.class_means(), strict=True
    ):
        own = features.subset([name])
        distances = np.linalg.norm(own.vectors - mean, axis=1)
        assert sample == own.ids[distances.argmin()]


def test_one_dimension_and_many_classes() -> None:
    drawn = class_map(_features(dimensions=1), max_classes=7)
    assert drawn.points.shape == (7, 2)
    assert (drawn.points[:, 1] == 0).all()
    assert drawn.superclasses == drawn.classes


def test_sides() -> None:
    drawn = class_map(_features())
    split = Split(0, ("c00", "c01"), ("c02",), 1.0)
    assert class_sides(drawn, split)[:4] == ["train", "train", "test", ""]
