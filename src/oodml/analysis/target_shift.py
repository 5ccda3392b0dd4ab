"""How far a target without labels lies from the train classes."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from oodml.errors import OodmlError
from oodml.shift.distances import frechet_distance
from oodml.shift.splits import Progression, Split
from oodml.vectors import VectorSet

UNLABELLED = ("image_fid", "clustered_fid")
MANY = 300


@dataclass(frozen=True)
class Axes:
    """The leading principal axes of a study's features, in which unlabelled shift is measured.

    Fewer dimensions than images make the Fréchet distance hardly depend on how many images a
    target has. mean: [d]. directions: [d k].
    """

    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d k"]

    def project(self, vectors: VectorSet) -> VectorSet:
        """The vectors on the axes."""
        if vectors.vectors.shape[1] != len(self.mean):
            raise OodmlError(
                f"the target's vectors have {vectors.vectors.shape[1]} dimensions, the study's "
                f"features {len(self.mean)}; embed the target with the study's backbone"
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
    """One row a split (by its step): class_mean_fid, image_fid, clustered_fid.

    class_mean_fid is the split's own shift, which needs labels; the others are those of
    `target_shift`. features: of the study, on its principal axes. n_images: measure on as many
    of the test images, drawn with the seed 0, as a target has, so that both err alike.
    """
    rows = {}
    for split in progression:
        target = features.subset(split.test).vectors
        if n_images is not None and n_images < len(target):
            target = np.random.default_rng(0).choice(target, n_images, replace=False)
        found = target_shift(split, features, target)
        rows[str(split.step)] = {"class_mean_fid": split.shift} | found
    return pd.DataFrame.from_dict(rows, orient="index")


def target_shift(
    split: Split, features: VectorSet, target: Float[np.ndarray, "n k"]
) -> dict[str, float]:
    """The unlabelled measures of a target against the train classes of a split.

    image_fid: between the images of both sides. clustered_fid: between the means of the train
    classes and the centres of clusters of the target, as many as classes of the train
    classes' size would be. features, target: on the principal axes.
    """
    if len(target) < 4:
        raise OodmlError(f"a target of {len(target)} images has no measurable shift; 4 are needed")
    train = features.subset(split.train)
    means = train.class_means()
    clusters = max(2, round(len(target) * len(means) / len(train)))
    return {
        "image_fid": frechet_distance(train.vectors, target),
        "clustered_fid": frechet_distance(means, cluster_centres(target, clusters)),
    }


def cluster_centres(
    points: Float[np.ndarray, "n k"], clusters: int, seed: int = 0
) -> Float[np.ndarray, "c k"]:
    """Centres of k-means; at most one a point.

    Few clusters start from k-means++, more than `MANY` from random points by faiss: the careful
    start takes time in the square of the clusters, hours at the eleven thousand of a large split.
    """
    count = min(clusters, len(points) // 2)
    if count > MANY:
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
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # it is left out
        return np.asarray(kmeans2(points, count, iter=25, minit="++", rng=seed)[1])
