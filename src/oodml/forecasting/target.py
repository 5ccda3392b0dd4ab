"""The forecast of a new target from a study folder, on features of both under several views."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.analysis.forecast import Forecaster, TargetForecast, TargetSignals
from oodml.analysis.small_targets import ALL_CLASSES, SmallTargets, describe_sizes
from oodml.backbones import is_user_code
from oodml.datasets import open_unlabeled, without_corrupt
from oodml.embedding import embed, weights_key
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.signals import query_signals, signal_names
from oodml.images.fingerprint import fingerprint
from oodml.images.image_set import ImageSet
from oodml.report import gain_tables
from oodml.report.folder import StudyFolder
from oodml.report.gain_tables import require_features
from oodml.shift.distances import frechet_distance
from oodml.vector_files import SUFFIXES
from oodml.vectors import VectorSet

MIN_TARGET = 20
FILE_REMEDY = "pass the target's features as a file"
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


def augmented_features(
    images: ImageSet, options: Mapping[str, Any]
) -> tuple[NDArray[np.float32], ...]:
    """The features [n f] under each augmented view; `options` are arguments of `embed`."""
    return tuple(embed(images, **options, view=view).vectors for view in range(N_VIEWS))


def _study_views(folder: StudyFolder, options: Mapping[str, Any]) -> FeatureViews:
    """The features that a study measured shift on, and augmented views if its images open."""
    features, _ = require_features(folder)
    rows = {} if folder.images is None else {name: i for i, name in enumerate(folder.images.ids)}
    if folder.images is None or not set(features.ids.tolist()) <= set(rows):
        return FeatureViews(features)
    images = folder.images.select(np.array([rows[name] for name in features.ids.tolist()]))
    return FeatureViews(features, augmented_features(images, options))


def _embedding_options(folder: StudyFolder, trust_code: bool) -> dict[str, Any]:
    """The arguments of `embed` with which the study's features were computed."""
    source = folder.features.source if folder.features else {}
    backbone = str(source.get("backbone", "lite0"))
    if is_user_code(backbone) and not trust_code:
        problem = f"user code computed the study's features ({backbone}); it was not imported"
        remedy = f"If you trust the folder, pass --trust-code; otherwise {FILE_REMEDY}"
        raise OodmlError(f"{problem}. {remedy}", "--trust-code", backbone)
    size, tag = source.get("image_size", "own"), str(source.get("weights", "own"))
    file = folder.plan.shift_weights
    usable = [weights for weights in (None, "none", file) if weights_key(weights) == tag]
    if not usable:
        problem = f"the study's features were computed with custom weights (content {tag})"
        missing = f"{Path(file)} is missing or has other contents" if file else ""
        reason = f"{missing or 'plan.json does not name their file'}. Restore the file"
        raise OodmlError(f"{problem}, but {reason}, or {FILE_REMEDY}", file or "plan.json", tag)
    return {
        "backbone": backbone,
        "weights": usable[0],
        "image_size": None if size == "own" else int(size),
        "augmentation": str(source.get("augmentation", "base")),
        "pooling": str(source.get("pooling", "avg")),
    }


@dataclass(frozen=True)
class Axes:
    """The leading principal axes of a study's features, on which unlabeled shift is measured: with
    fewer dimensions, the Fréchet distance depends little on the number of images in the target."""

    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d k"]

    def project(self, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """The coordinates of the vectors on the axes."""
        width = vectors.shape[1]
        if width != len(self.mean):
            problem = f"{width} dimensions, and the study's features have {len(self.mean)}"
            raise error_at("target", f"{problem}; use the study's backbone", width)
        return np.asarray((vectors - self.mean) @ self.directions)


def principal_axes(vectors: Float[np.ndarray, "n d"], dimensions: int = 32) -> Axes:
    """The axes of largest variance."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.cov(vectors.astype(np.float64), rowvar=False).reshape(len(mean), -1)
    return Axes(mean, np.linalg.eigh(covariance)[1][:, ::-1][:, :dimensions])


@dataclass(frozen=True)
class ForecastStudy:
    """A study with everything that its forecasts use; `train` are the training images of each split
    on the axes that shift is measured on."""

    small: SmallTargets
    axes: Axes
    train: tuple[Float[np.ndarray, "n k"], ...]

    def signals(self, views: FeatureViews, classes: float | None = None) -> TargetSignals:
        """The signals of a target, with the number of its classes if known."""
        if (n := len(views.test)) < MIN_TARGET:
            problem = f"the target has {n} images; a forecast requires {MIN_TARGET}"
            raise OodmlError(problem, "target", n)
        projected = self.axes.project(views.test.vectors)
        shift = float(np.mean([frechet_distance(train, projected) for train in self.train]))
        values = query_signals([views.test.vectors, *views.augmented]).values
        return TargetSignals(values, n, shift, classes)


def open_forecast_study(folder: StudyFolder, views: FeatureViews, seed: int = 0) -> ForecastStudy:
    """Draw the small targets of a study, and measure their values and signals."""
    features, progression = require_features(folder)
    axes = principal_axes(features.vectors)
    projected = axes.project(features.vectors)
    train = tuple(projected[np.isin(features.classes, split.train)] for split in progression)
    draws, labels = gain_tables.draw_targets(folder, seed), features.labels
    sizes = pd.DataFrame([describe_sizes(labels[draw.rows]) for draw in draws])
    shift, signals, correct = [], [], []
    for draw in draws:
        known = draw.split != ALL_CLASSES
        own = projected[draw.rows]
        shift.append(frechet_distance(train[draw.split], own) if known else np.nan)
        every = [view[draw.rows] for view in (views.test.vectors, *views.augmented)]
        measured = query_signals(every, draw.queries)
        signals.append(measured.values)
        correct.append(gain_tables.hits(labels[draw.rows], draw.queries, measured.neighbors))
    values, spread = gain_tables.method_values(correct, gain_tables.method_hits(folder, draws))
    if values.empty:
        problem = f"{folder.path}: a forecast requires a method with results on every split"
        raise OodmlError(problem, location=str(folder.path))
    names, groups = signal_names(len(views.augmented)), gain_tables.membership(draws)
    sizes = sizes.assign(shift=shift)
    small = SmallTargets(names, groups, sizes, signals, correct, values, spread)
    return ForecastStudy(small, axes, train)


@dataclass(frozen=True)
class OpenForecast:
    """The forecast of a target; `images` is None if only features were given."""

    folder: StudyFolder
    target: FeatureViews
    forecast: TargetForecast
    images: ImageSet | None
    name: str

    @property
    def is_own(self) -> bool:
        """Whether the images are those of the study; their classes do not matter."""
        sets = [one for one in (self.images, self.folder.images) if one is not None]
        bare = (replace(one, classes=np.full(len(one), ""), superclasses=None) for one in sets)
        return len(sets) == 2 and len(set(map(fingerprint, bare))) == 1


def open_forecast(
    folder: StudyFolder,
    target: str | ImageSet,
    classes: float | None = None,
    images_per_class: float | None = None,
    *,
    trust_code: bool = False,
    device: str | None = None,
) -> OpenForecast:
    """Forecast Recall@1 of every method of a study on unlabeled images.

    `target` is images, a folder, a table, or a dataset, or a file of their features; `classes` or
    `images_per_class` are given if known. With `trust_code`, user code of the folder is imported.
    """
    if classes is not None and images_per_class is not None:
        problem = "the number of classes and of images per class exclude each other"
        raise OodmlError(problem, "images_per_class")
    if isinstance(target, str) and target.endswith(SUFFIXES):
        views, images = FeatureViews(VectorSet.load(target)), None
        study = FeatureViews(require_features(folder)[0])
    else:
        options = _embedding_options(folder, trust_code) | {"device": device}
        study = _study_views(folder, options)
        images = target if isinstance(target, ImageSet) else open_unlabeled(target)
        images = without_corrupt(images)
        views = FeatureViews(embed(images, **options), augmented_features(images, options))
    if images_per_class is not None:
        classes = len(views.test) / images_per_class
    forecast = forecast_target(folder, study, views, classes)
    return OpenForecast(folder, views, forecast, images, getattr(target, "name", str(target)))


def forecast_target(
    folder: StudyFolder, study: FeatureViews, target: FeatureViews, classes: float | None = None
) -> TargetForecast:
    """Forecast Recall@1 of every method of a study from its features and those of the target.

    The classes of the target are not used; `classes` is their number, if known.
    """
    if not (study.augmented and target.augmented):
        study, target = FeatureViews(study.test), FeatureViews(target.test)
    opened = open_forecast_study(folder, study)
    forecaster = Forecaster(opened.small, classes is not None)
    return forecaster.forecast(opened.signals(target, classes))


def forecast_changes(
    folder: StudyFolder, method: str, index: VectorSet, new: Mapping[str, VectorSet], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """The expected change of Recall@1 of a method from an index to sets of new images, all features
    of the study's network: the difference of two forecasts, with an 80% interval that takes their
    errors as independent. Draws with `seed` make the index and the set equal in size."""
    features, _ = require_features(folder)
    width = features.vectors.shape[1]
    for name, one in {"index": index, **new}.items():
        if (own := one.vectors.shape[1]) != width:
            network = features.source.get("backbone", "unknown")
            problem = f"{own} dimensions; the features of the study's network, {network}, have"
            raise error_at(name, f"{problem} {width}", own, (str(width),))
    study = open_forecast_study(folder, FeatureViews(features))
    forecaster = Forecaster(study.small)

    def forecast(vectors: VectorSet) -> tuple[float, float, float]:
        table = forecaster.forecast(study.signals(FeatureViews(vectors))).methods
        rows = table.set_index("method")
        if method not in rows.index:
            raise unknown("method", method, [*rows.index], "--model")
        row = rows.loc[[method], ["expected", "low_80", "high_80"]].to_numpy(float)
        expected, low, high = row[0].tolist()
        return expected, expected - low, high - expected

    changes = {}
    for name, vectors in new.items():
        size = min(len(index), len(vectors))
        base, level = (
            forecast(one.select(np.random.default_rng(seed).permutation(len(one))[:size]))
            for one in (index, vectors)
        )
        change = level[0] - base[0]
        errors = float(np.hypot(level[1], base[2])), float(np.hypot(level[2], base[1]))
        changes[name] = (change, change - errors[0], change + errors[1])
    return changes
