"""Refusing settings that contradict each other, before any image or network is loaded."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from oodml.adaptation import AdaptSettings
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.images.image_set import ImageSet
from oodml.methods._base import BaseMethod, Sizes
from oodml.model import ModelTable
from oodml.results.metrics import find_metric
from oodml.shift.splits import Split
from oodml.training.settings import TrainSettings

VALIDATION_KS = (1,)
"""The ks of the metrics that are computed on the validation classes."""
MAX_NAMED = 5
"""Number of classes that an error names."""


def check_method(
    method: type[BaseMethod],
    options: Mapping[str, Any],
    model: ModelTable,
    train: TrainSettings,
    location: str,
) -> None:
    """Build a method once, and refuse settings that contradict each other or the method."""
    try:
        built = method(Sizes(n_classes=4, dim=model.dim, feature_dim=8), **options)
    except Exception as error:  # user code raises anything
        allowed = error.allowed if isinstance(error, OodmlError) else ()
        raise error_at(location, str(error), allowed=allowed) from error
    problem = next(_contradictions(model, train, built), None) if built.trains else None
    if problem:
        raise error_at(location, problem)


def check_adaptation(adapt: AdaptSettings, location: str) -> None:
    """Refuse metrics that few-shot adaptation cannot measure."""
    allowed = (*validation_metrics(), "recall@K", "accuracy")
    for name in adapt.metrics:
        if name not in allowed and not re.fullmatch(r"recall@[1-9]\d*", name):
            raise unknown("metric", name, allowed, location)


def check_class_sizes(shots: Sequence[int], images: ImageSet, location: str = "shots") -> None:
    """Refuse data whose classes all have one image, and shots that no class has enough images for.

    An episode needs `shots` support images of a class and at least one more as a query.
    """
    counts = _class_counts(images)
    largest = max(counts, key=lambda name: counts[name])
    if counts[largest] < 2:
        problem = f"every class of {images.name} has only one image: {_name_some(counts)}"
        raise error_at("data", f"{problem}; retrieval needs at least two", images.name)
    for n in sorted(shots, reverse=True):
        if n >= counts[largest]:
            problem = f"{n} shots need a class with at least {n + 1} images; the largest class of"
            size = f"{images.name}, {largest!r}, has {counts[largest]}"
            raise error_at(location, f"{problem} {size}. Remove {n} from `shots`.", n)


def check_split(split: Split, images: ImageSet, location: str, validate: bool = False) -> None:
    """Refuse a split whose classes cannot be evaluated: retrieval needs classes of two images."""
    counts = _class_counts(images)
    where = f"{location}: split {split.step}"
    if validate and not split.validation:
        problem = (
            f"{where} has no validation classes although splits.validation is above 0; its "
            f"{len(split.train)} training classes are too few. Set splits.validation = 0 to train "
            "without validation."
        )
        raise OodmlError(problem, location, split.step)
    for side, names in (("test", split.test), ("validation", split.validation)):
        if names and all(counts.get(name, 0) < 2 for name in names):
            problem = (
                f"{where}: all of its {side} classes have only one image, so retrieval has no "
                f"positives: {_name_some(names)}. Add images to them, or choose other splits."
            )
            raise OodmlError(problem, location, tuple(sorted(names)))


def _name_some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(map(repr, ordered[:MAX_NAMED]))
    more = len(ordered) - MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _class_counts(images: ImageSet) -> dict[str, int]:
    names, counts = np.unique(images.classes, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _contradictions(model: ModelTable, train: TrainSettings, method: BaseMethod) -> Iterator[str]:
    yield from _batch_problems(train)
    yield from _epoch_problems(model, train)
    for name in train.select.split("+"):
        if name not in validation_metrics():
            yield str(unknown("metric", name, validation_metrics(), "train.select"))
    if model.mode == "head":
        yield from _head_mode_problems(model, train, method)
    if train.chunk_size and not model.freeze_batch_norm:
        yield (
            f"train.chunk_size {train.chunk_size}: with model.freeze_batch_norm = false, batch "
            "norm would see chunks instead of the batch; remove one of the keys"
        )
    if not model.normalize and method.head() is not None:
        yield "model.normalize = false: the method has its own head, which always normalizes"


def _batch_problems(train: TrainSettings) -> Iterator[str]:
    size, per_class = train.batch_size, train.per_class
    if size < 2 * per_class:
        yield (
            f"train.batch_size {size} holds fewer than two classes of "
            f"train.per_class {per_class} images"
        )
    if size % per_class:
        below = size - size % per_class
        yield (
            f"train.batch_size {size} is not a multiple of train.per_class {per_class}; "
            f"use {below} or {below + per_class}"
        )


def _epoch_problems(model: ModelTable, train: TrainSettings) -> Iterator[str]:
    if train.warmup_epochs and model.mode == "head":
        yield (
            f'train.warmup_epochs {train.warmup_epochs}: with model.mode = "head" the backbone is '
            "always frozen; remove train.warmup_epochs"
        )
    if train.warmup_epochs and train.warmup_epochs >= train.epochs:
        yield (
            f"train.warmup_epochs {train.warmup_epochs} of train.epochs {train.epochs}: the "
            'backbone would never train; lower it, or set model.mode = "head"'
        )
    if 0 < train.epochs < train.evaluate_every:
        yield (
            f"train.evaluate_every {train.evaluate_every} exceeds train.epochs {train.epochs}: "
            "there would be only one epoch to choose from"
        )


def _head_mode_problems(
    model: ModelTable, train: TrainSettings, method: BaseMethod
) -> Iterator[str]:
    if train.precision == "bf16":
        yield (
            'train.precision "bf16" applies to the backbone, which model.mode = "head" never runs '
            'during training; use "fp32", or mode = "finetune"'
        )
    if not model.freeze_batch_norm:
        yield (
            'model.freeze_batch_norm = false: with model.mode = "head" the backbone is frozen; '
            'remove the key, or set mode = "finetune"'
        )
    changed = {f"model.{key}" for key in ("tune", "lora") if key in model.model_fields_set}
    names = ("layer_decay", "gradient_checkpointing", "chunk_size", "average")
    default = TrainSettings.model_fields
    changed |= {f"train.{key}" for key in names if getattr(train, key) != default[key].default}
    pulls = [key for key in ("embedding", "weights") if getattr(train.retain, key)]
    changed |= {f"train.retain.{key}" for key in pulls}
    for key in sorted(changed):
        yield f'{key} applies to a backbone that trains; remove it, or set model.mode = "finetune"'
    if isinstance(model.input_cache, int):
        yield (
            f'model.input_cache {model.input_cache}: with model.mode = "head" every image is read '
            "once, from its file; remove the key"
        )
    if method.rotates:
        yield (
            'the loss rotates images, but model.mode = "head" trains on cached features; set '
            'mode = "finetune"'
        )
    if model.views < method.n_views:
        yield f"model.views {model.views}: the method compares {method.n_views} views of an image"


@cache
def validation_metrics() -> tuple[str, ...]:
    """The metrics of the validation classes that can select an epoch or an option."""
    metrics = retrieval_metrics(np.eye(4) + 0.1, np.array([0, 0, 1, 1]), ks=VALIDATION_KS)
    return tuple(name for name in metrics if find_metric(name).is_quality)
