"""The forecast of a new target from a study folder."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from oodml.analysis.forecast import Forecaster, TargetForecast, TargetSignals
from oodml.analysis.small_targets import ALL_CLASSES, SmallTargets, describe_sizes
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.signals import query_signals, signal_names
from oodml.forecasting.features import FeatureViews, study_views, target_views
from oodml.images.image_set import ImageSet
from oodml.report.folder import StudyFolder
from oodml.report.small_targets import (
    draw_targets,
    hits,
    membership,
    method_hits,
    method_values,
    require_features,
)
from oodml.shift.distances import frechet_distance
from oodml.vectors import VectorSet

MIN_TARGET = 20


@dataclass(frozen=True)
class Axes:
    """The leading principal axes of a study's features, on which unlabeled shift is measured.

    With fewer dimensions than images, the Fréchet distance depends little on the number of images
    in the target. mean: [d] of the features. directions: [d k] the axes.
    """

    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d k"]

    def project(self, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """The coordinates of the vectors on the axes."""
        if vectors.shape[1] != len(self.mean):
            raise OodmlError(
                f"the target's vectors have {vectors.shape[1]} dimensions, and the study's "
                f"features {len(self.mean)}; embed the target with the study's backbone",
                location="target",
                given=vectors.shape[1],
            )
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
        if len(views.test) < MIN_TARGET:
            raise OodmlError(
                f"the target has {len(views.test)} images; a forecast requires {MIN_TARGET}",
                location="target",
                given=len(views.test),
            )
        projected = self.axes.project(views.test.vectors)
        shift = float(np.mean([frechet_distance(train, projected) for train in self.train]))
        values = query_signals([views.test.vectors, *views.augmented]).values
        return TargetSignals(values, len(projected), shift, classes)


def open_forecast_study(folder: StudyFolder, views: FeatureViews, seed: int = 0) -> ForecastStudy:
    """Draw the small targets of a study, and measure their values and signals."""
    features, progression = require_features(folder)
    axes = principal_axes(features.vectors)
    projected = axes.project(features.vectors)
    train = tuple(projected[np.isin(features.classes, split.train)] for split in progression)
    draws, labels = draw_targets(folder, seed), features.labels
    every = (views.test.vectors, *views.augmented)
    measured = [query_signals([view[d.rows] for view in every], d.queries) for d in draws]
    sizes = pd.DataFrame([describe_sizes(labels[draw.rows]) for draw in draws])
    sizes["shift"] = [
        np.nan
        if draw.split == ALL_CLASSES
        else frechet_distance(train[draw.split], projected[draw.rows])
        for draw in draws
    ]
    correct = [
        hits(labels[draw.rows], draw.queries, signals.neighbors)
        for draw, signals in zip(draws, measured, strict=True)
    ]
    small = SmallTargets(
        signal_names(len(views.augmented)),
        membership(draws),
        sizes,
        [signals.values for signals in measured],
        correct,
        *method_values(correct, method_hits(folder, draws)),
    )
    if small.values.empty:
        raise OodmlError(
            f"{folder.path}: a forecast requires a method with results on every split",
            location=str(folder.path),
        )
    return ForecastStudy(small, axes, train)


@dataclass(frozen=True)
class OpenForecast:
    """The forecast of a target; `images` is None if only features were given."""

    folder: StudyFolder
    target: FeatureViews
    forecast: TargetForecast
    images: ImageSet | None
    name: str


def open_forecast(
    folder: StudyFolder,
    target: str,
    classes: float | None = None,
    images_per_class: float | None = None,
    *,
    trust_code: bool = False,
    device: str | None = None,
) -> OpenForecast:
    """Forecast Recall@1 of every method of a study on unlabeled images.

    Args:
        folder: the study.
        target: a folder, a table, or a dataset of images, or a file of their features.
        classes: the number of classes of the target, if known.
        images_per_class: the number of images per class, instead of `classes`.
        trust_code: import user code that the folder names.
        device: torch device.

    Raises:
        OodmlError: if the study lacks features, splits, or results, or the target is too small.
    """
    if classes is not None and images_per_class is not None:
        raise OodmlError(
            "the number of classes and of images per class exclude each other",
            location="images_per_class",
        )
    study = study_views(folder, trust_code, device)
    views, images = target_views(target, folder, trust_code, device)
    if images_per_class is not None:
        classes = len(views.test) / images_per_class
    return OpenForecast(
        folder, views, forecast_target(folder, study, views, classes), images, target
    )


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
    folder: StudyFolder,
    method: str,
    index: VectorSet,
    new: Mapping[str, VectorSet],
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """The expected change of Recall@1 of a method from an index to sets of new images.

    Args:
        folder: the study.
        method: one of its methods.
        index: features of the study's network, like those of `new`.
        new: the features of each set.
        seed: of the draws that make the index and the set equal in size, on which recall depends.

    Returns:
        For each set, the forecast for it minus that for the index, and an 80% interval, which
        takes the errors of the two forecasts as independent.

    Raises:
        OodmlError: if the vectors are not as wide as the study's features, or the method has no
            forecast.
    """
    features, _ = require_features(folder)
    width = features.vectors.shape[1]
    for name, one in {"index": index, **new}.items():
        if one.vectors.shape[1] != width:
            raise error_at(
                name,
                f"{one.vectors.shape[1]} dimensions; the features of the study's network, "
                f"{features.source.get('backbone', 'unknown')}, have {width}",
                one.vectors.shape[1],
                (str(width),),
            )
    study = open_forecast_study(folder, FeatureViews(features))
    forecaster = Forecaster(study.small, False)

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
        sides = (
            one.select(np.random.default_rng(seed).permutation(len(one))[:size])
            for one in (index, vectors)
        )
        base, level = map(forecast, sides)
        change = level[0] - base[0]
        errors = float(np.hypot(level[1], base[2])), float(np.hypot(level[2], base[1]))
        changes[name] = (change, change - errors[0], change + errors[1])
    return changes
