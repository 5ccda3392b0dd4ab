"""Shift of unlabeled images to the training classes of a split."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from oodml.errors import OodmlError
from oodml.shift.distances import frechet_distance
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet

UNLABELED = ("image_fid", "clustered_fid")
"""The measures of shift that need no labels of the target."""
MEASURE_LABELS = {
    "class_mean_fid": "FID of class means (needs labels)",
    "image_fid": "FID of images",
    "clustered_fid": "FID of cluster centers",
}
MAX_CAREFUL_CLUSTERS = 300


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


def measures(
    progression: Progression, features: VectorSet, n_images: int | None = None
) -> pd.DataFrame:
    """The shift of each split by several measures.

    Args:
        features: the study's features on its principal axes.
        n_images: measure on a random subset of the test images of this size, so that the bias is
            that of a target with as many images.

    Returns:
        One row per split (index: its step), with the columns `class_mean_fid`, which is the
        split's own shift and needs labels, and those of `target_shift`.
    """
    rows = {}
    for split in progression:
        target = features.subset(split.test).vectors
        if n_images is not None and n_images < len(target):
            target = np.random.default_rng(0).choice(target, n_images, replace=False)
        unlabeled = target_shift(split, features, target)
        rows[str(split.step)] = {"class_mean_fid": split.shift} | unlabeled
    return pd.DataFrame.from_dict(rows, orient="index")


def target_shift(
    split: Split, features: VectorSet, target: Float[np.ndarray, "n k"]
) -> dict[str, float]:
    """Measure the shift of a target to the training classes of a split, without labels.

    Args:
        features: the study's features on its principal axes.
        target: [n k] the target's features on the same axes.

    Returns:
        `image_fid`: the Fréchet distance between the images of both sides. `clustered_fid`: the
        distance between the means of the training classes and the cluster centers of the target,
        with clusters of the same average size as the training classes.
    """
    if len(target) < 4:
        raise OodmlError(
            f"the target has {len(target)} images; measuring shift requires at least 4",
            location="target",
            given=len(target),
        )
    train = features.subset(split.train)
    means = train.class_means()
    clusters = max(2, round(len(target) * len(means) / len(train)))
    return {
        "image_fid": frechet_distance(train.vectors, target),
        "clustered_fid": frechet_distance(means, cluster_centers(target, clusters)),
    }


def cluster_centers(
    points: Float[np.ndarray, "n k"], clusters: int, seed: int = 0
) -> Float[np.ndarray, "c k"]:
    """Cluster centers of k-means, at most one for every two points.

    More than `MAX_CAREFUL_CLUSTERS` clusters start from random points instead of k-means++, whose
    time is quadratic in the number of clusters: hours for the eleven thousand classes of a large
    split.
    """
    count = min(clusters, len(points) // 2)
    if count > MAX_CAREFUL_CLUSTERS:
        from oodml.evaluate.clustering import kmeans

        labels = kmeans(points, count, seed=seed)
    else:
        labels = _careful_kmeans(points, count, seed)
    used = np.unique(labels)
    return np.stack([points[labels == label].mean(axis=0) for label in used])


def _careful_kmeans(
    points: Float[np.ndarray, "n k"], count: int, seed: int
) -> Int[np.ndarray, " n"]:
    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "One of the clusters is empty"
        )  # empty clusters are dropped
        return np.asarray(kmeans2(points, count, iter=25, minit="++", rng=seed)[1])
