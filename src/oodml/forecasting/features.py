"""The features that forecasts use: a study's images and a target under several views."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from oodml.backbones import is_user_code
from oodml.datasets import open_unlabeled
from oodml.embedding import embed, weights_key
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.report.folder import StudyFolder
from oodml.report.small_targets import require_features
from oodml.vector_files import SUFFIXES
from oodml.vectors import VectorSet

N_VIEWS = 2
"""Augmented views; trained heads use the same ones, so they are cached."""


@dataclass(frozen=True)
class FeatureViews:
    """Features [n f] of images under the test view, and under augmented views if any."""

    test: VectorSet
    augmented: tuple[NDArray[np.float32], ...] = ()

    def select(self, rows: Int[np.ndarray, " m"]) -> "FeatureViews":
        """The views of some images."""
        return FeatureViews(self.test.select(rows), tuple(view[rows] for view in self.augmented))


def study_views(
    folder: StudyFolder, trust_code: bool = False, device: str | None = None
) -> FeatureViews:
    """The features that a study measured shift on, and augmented views if its images open.

    Raises:
        OodmlError: if the study has no features or splits.
    """
    features, _ = require_features(folder)
    if folder.images is None:
        return FeatureViews(features)
    rows = {name: row for row, name in enumerate(folder.images.ids.tolist())}
    if not set(features.ids.tolist()) <= set(rows):
        return FeatureViews(features)
    images = folder.images.select(np.array([rows[name] for name in features.ids.tolist()]))
    options = embedding_options(folder, trust_code) | {"device": device}
    return FeatureViews(features, augmented_features(images, options))


def target_views(
    target: str, folder: StudyFolder, trust_code: bool = False, device: str | None = None
) -> tuple[FeatureViews, ImageSet | None]:
    """The target's features, computed like those of the study, and its images."""
    if target.endswith(SUFFIXES):
        return FeatureViews(VectorSet.load(target)), None
    options = embedding_options(folder, trust_code) | {"device": device}
    images = open_unlabeled(target, skip_corrupt=True)
    return FeatureViews(embed(images, **options), augmented_features(images, options)), images


def augmented_features(
    images: ImageSet, options: Mapping[str, Any]
) -> tuple[NDArray[np.float32], ...]:
    """The features [n f] under each augmented view; `options` are arguments of `embed`."""
    return tuple(embed(images, **options, view=view).vectors for view in range(N_VIEWS))


def embedding_options(folder: StudyFolder, trust_code: bool) -> dict[str, Any]:
    """The arguments of `embed` with which the study's features were computed."""
    source = folder.features.source if folder.features else {}
    backbone = str(source.get("backbone", "lite0"))
    if is_user_code(backbone) and not trust_code:
        raise OodmlError(
            f"user code computed the study's features ({backbone}); it was not imported. If you "
            "trust the folder, pass --trust-code; otherwise pass the target's features as a file",
            location="--trust-code",
            given=backbone,
        )
    size = source.get("image_size", "own")
    return {
        "backbone": backbone,
        "weights": _weights(str(source.get("weights", "own")), folder.plan.shift_weights),
        "image_size": None if size == "own" else int(size),
        "augmentation": str(source.get("augmentation", "base")),
        "pooling": str(source.get("pooling", "avg")),
    }


def _weights(tag: str, file: str | None) -> str | None:
    """The weights with a tag of `weights_key`: the default, none, or the study's file."""
    for weights in (None, "none", file):
        if weights_key(weights) == tag:
            return weights
    reason = (
        "plan.json does not name their file"
        if file is None
        else f"{Path(file)} is missing or has other contents"
    )
    raise OodmlError(
        f"the study's features were computed with custom weights (content {tag}), but {reason}. "
        "Restore the file, or pass the target's features as a file",
        location=file or "plan.json",
        given=tag,
    )
