"""Refusing settings that contradict each other, before any image or network is loaded."""

import re
from collections import Counter
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
OF_BACKBONE = ("warmup_epochs", "layer_decay", "gradient_checkpointing", "chunk_size", "average",
               "precision")  # fmt: skip
"""Keys of [train] that concern a backbone that trains."""
PULLS = ("embedding", "weights")
"""The terms of `train.retain` that concern a backbone that trains."""
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
    counts = Counter(images.classes.tolist())
    largest, size = counts.most_common(1)[0]
    if size < 2:
        problem = f"every class of {images.name} has only one image: {_name_some(counts)}"
        raise error_at("data", f"{problem}; retrieval needs at least two", images.name)
    for n in sorted(shots, reverse=True):
        if n >= size:
            problem = f"{n} shots need a class with at least {n + 1} images; the largest class of"
            given = f"{images.name}, {largest!r}, has {size}"
            raise error_at(location, f"{problem} {given}. Remove {n} from `shots`.", n)


def check_split(split: Split, images: ImageSet, location: str, validate: bool = False) -> None:
    """Refuse a split whose classes cannot be evaluated: retrieval needs classes of two images."""
    counts = Counter(images.classes.tolist())
    where = f"{location}: split {split.step}"
    if validate and not split.validation:
        problem = f"no validation classes; its {len(split.train)} training classes are too few"
        remedy = "Set splits.validation = 0 to train without validation."
        raise OodmlError(f"{where} has {problem}. {remedy}", location, split.step)
    for side, names in (("test", split.test), ("validation", split.validation)):
        if names and all(counts[name] < 2 for name in names):
            problem = f"all of its {side} classes have only one image: {_name_some(names)}"
            remedy = "Add images to them, or choose other splits."
            raise OodmlError(f"{where}: {problem}. {remedy}", location, tuple(sorted(names)))


def _name_some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown, more = ", ".join(map(repr, ordered[:MAX_NAMED])), len(ordered) - MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _contradictions(model: ModelTable, train: TrainSettings, method: BaseMethod) -> Iterator[str]:
    size, per_class = train.batch_size, train.per_class
    keys, below = f"train.batch_size {size}, train.per_class {per_class}", size - size % per_class
    if size < 2 * per_class:
        yield f"{keys}: a batch holds fewer than two classes"
    if size % per_class:
        yield f"{keys}: not a multiple; use a batch size of {below} or {below + per_class}"
    epochs, warmup, every = train.epochs, train.warmup_epochs, train.evaluate_every
    if warmup and warmup >= epochs:
        yield f"train.warmup_epochs {warmup} of {epochs}: the backbone would never train; lower it"
    if 0 < epochs < every:
        yield f"train.evaluate_every {every} of {epochs} epochs: only one could be chosen"
    for name in train.select.split("+"):
        if name not in validation_metrics():
            yield str(unknown("metric", name, validation_metrics(), "train.select"))
    if model.mode == "head":
        yield from _head_mode_problems(model, train, method)
    if train.chunk_size and not model.freeze_batch_norm:
        both = f"train.chunk_size {train.chunk_size} and model.freeze_batch_norm = false"
        yield f"{both}: batch norm would see chunks, not the batch; remove one of the keys"
    if not model.normalize and method.head() is not None:
        yield "model.normalize = false: the method has its own head, which always normalizes"


def _head_mode_problems(
    model: ModelTable, train: TrainSettings, method: BaseMethod
) -> Iterator[str]:
    default = TrainSettings.model_fields
    changed = {f"train.{key}": getattr(train, key) != default[key].default for key in OF_BACKBONE}
    changed |= {f"model.{key}": key in model.model_fields_set for key in ("tune", "lora")}
    changed |= {f"train.retain.{key}": getattr(train.retain, key) for key in PULLS}
    changed["model.freeze_batch_norm"] = not model.freeze_batch_norm
    changed["model.input_cache"] = isinstance(model.input_cache, int)
    for key in sorted(key for key, is_changed in changed.items() if is_changed):
        yield f'{key} applies to a backbone that trains; remove it, or set model.mode = "finetune"'
    if method.rotates:
        yield 'model.mode = "head": the loss rotates images; set model.mode = "finetune"'
    if model.views < method.n_views:
        yield f"model.views {model.views}: the method compares {method.n_views} views of an image"


@cache
def validation_metrics() -> tuple[str, ...]:
    """The metrics of the validation classes that can select an epoch or an option."""
    metrics = retrieval_metrics(np.eye(4) + 0.1, np.array([0, 0, 1, 1]), ks=VALIDATION_KS)
    return tuple(name for name in metrics if find_metric(name).is_quality)
