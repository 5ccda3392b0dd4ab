from dataclasses import replace

import numpy as np
import pytest

from oodml.analysis.target_shift import cluster_centers, measures, principal_axes, target_shift
from oodml.errors import OodmlError
from oodml.shift.distances import frechet_distance
from oodml.shift.splits import Progression, Split
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


def _progression(features: VectorSet) -> Progression:
    names = features.class_names
    mixed, apart = (names[::2], names[1::2]), (names[:10], names[10:])
    return Progression((Split(0, *mixed, 1.0), Split(10, *apart, 9.0)), "made")


def test_principal_axes_keep_distances_when_all_are_kept() -> None:
    features = _features()
    projected = principal_axes(features, 6).project(features).vectors
    for i, j in ((0, 50), (3, 199)):
        before = np.linalg.norm(features.vectors[i] - features.vectors[j])
        assert np.linalg.norm(projected[i] - projected[j]) == pytest.approx(before, rel=1e-4)
    assert (np.diff(projected.var(axis=0)) < 1e-6).all()


def test_unlabeled_measures_grow_with_shift() -> None:
    features = _features()
    found = measures(_progression(features), principal_axes(features).project(features))
    assert found["class_mean_fid"].tolist() == [1.0, 9.0]
    for measure in ("image_fid", "clustered_fid"):
        assert found.loc["10", measure] > 2 * found.loc["0", measure]


def test_image_fid_is_that_of_the_images() -> None:
    features = _features()
    split = _progression(features)[1]
    target = features.subset(split.test).vectors
    expected = frechet_distance(features.subset(split.train).vectors, target)
    assert target_shift(split, features, target)["image_fid"] == pytest.approx(expected)


def test_clusters_stand_for_classes() -> None:
    features = _features()
    tight = replace(
        features, vectors=np.round(features.class_means()[features.labels], 3).astype("f4")
    )
    centers = cluster_centers(tight.vectors, 20)
    nearest = np.linalg.norm(centers[:, None] - tight.class_means()[None], axis=2).min(axis=1)
    assert np.median(nearest) < 1e-5


def test_many_clusters_are_found_in_little_time() -> None:
    pytest.importorskip("faiss")
    generator = np.random.default_rng(0)
    centers = generator.normal(0, 10, (600, 6))
    points = np.repeat(centers, 8, axis=0) + generator.normal(0, 0.01, (4800, 6))
    found = cluster_centers(points.astype(np.float32), 600)
    assert 400 < len(found) <= 600
    nearest = np.linalg.norm(found[:, None] - centers[None], axis=2).min(axis=1)
    assert np.median(nearest) < 0.1


def test_measured_on_as_many_images_as_the_target_has() -> None:
    features = _features()
    few = measures(_progression(features), features, n_images=30)
    many = measures(_progression(features), features)
    assert (few["image_fid"] != many["image_fid"]).all()
    assert few["image_fid"].to_numpy() == pytest.approx(many["image_fid"].to_numpy(), rel=0.6)


def test_bad_targets() -> None:
    features = _features()
    with pytest.raises(OodmlError, match="3 images"):
        target_shift(_progression(features)[0], features, features.vectors[:3])
    other = replace(features, vectors=features.vectors[:, :4])
    with pytest.raises(OodmlError, match="4 dimensions"):
        principal_axes(features).project(other)
