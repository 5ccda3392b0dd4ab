"""Settings that cannot all be meant, told before anything is loaded."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from oodml.errors import OodmlError, unknown
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.methods._base import BaseMethod, Sizes
from oodml.model import ModelSettings
from oodml.training.settings import TrainSettings

LOOKED_AT = (1,)
"""The ks of the metrics that the validation classes are scored by."""


def refuse_contradictions(
    model: ModelSettings,
    train: TrainSettings,
    method: type[BaseMethod],
    options: Mapping[str, Any],
    where: str,
) -> None:
    """Raise an error with its place for settings that contradict each other or the method."""
    try:
        made = method(Sizes(4, model.dim, 8), **options)
        reason = next(_contradictions(model, train, made), None) if made.trains else None
    except ValueError as error:  # a dim that the method cannot have
        reason = str(error)
    if reason:
        raise OodmlError(f"{where}: {reason}")


def _contradictions(
    model: ModelSettings, train: TrainSettings, method: BaseMethod
) -> Iterator[str]:
    yield from _of_batches(train)
    yield from _of_epochs(model, train)
    for name in train.select.split("+"):
        if name not in validation_metrics():
            yield str(unknown("metric", name, validation_metrics(), "train.select"))
    if model.mode == "head":
        yield from _of_head_mode(model, train, method)
    if not model.normalize and method.head() is not None:
        yield "model.normalize = false: the method has a head of its own, which always normalises"


def _of_batches(train: TrainSettings) -> Iterator[str]:
    size, each = train.batch_size, train.per_class
    if size < 2 * each:
        yield f"train.batch_size {size} holds fewer than two classes of train.per_class {each}"
    if size % each:
        below = size - size % each
        yield (
            f"train.batch_size {size} is no multiple of train.per_class {each}; "
            f"take {below} or {below + each}"
        )


def _of_epochs(model: ModelSettings, train: TrainSettings) -> Iterator[str]:
    if train.warmup_epochs and model.mode == "head":
        yield (
            f'train.warmup_epochs {train.warmup_epochs}: in model.mode "head" the backbone always '
            "rests; leave it out"
        )
    if train.warmup_epochs and train.warmup_epochs >= train.epochs:
        yield (
            f"train.warmup_epochs {train.warmup_epochs} of train.epochs {train.epochs}: the "
            'backbone would never train; make it fewer, or say model.mode = "head"'
        )
    if 0 < train.epochs < train.evaluate_every:
        yield (
            f"train.evaluate_every {train.evaluate_every} is more than train.epochs "
            f"{train.epochs}: there would be one epoch to choose from"
        )


def _of_head_mode(model: ModelSettings, train: TrainSettings, method: BaseMethod) -> Iterator[str]:
    if train.precision == "bf16":
        yield (
            'train.precision "bf16" is of the backbone\'s pass, which model.mode "head" has none '
            'of; say "fp32" here, or mode = "finetune"'
        )
    if not model.freeze_batch_norm:
        yield (
            'model.freeze_batch_norm = false: in model.mode "head" the backbone stays as it is; '
            'leave it out, or say mode = "finetune"'
        )
    if isinstance(model.input_cache, int):
        yield (
            f'model.input_cache {model.input_cache}: in model.mode "head" every image is read '
            "once, from its file; leave it out"
        )
    if model.views < method.n_views:
        yield f"model.views {model.views}: the method compares {method.n_views} views of an image"


@cache
def validation_metrics() -> tuple[str, ...]:
    """The metrics of validation classes by which an epoch or an option may be chosen."""
    found = retrieval_metrics(np.eye(4) + 0.1, np.array([0, 0, 1, 1]), ks=LOOKED_AT)
    return tuple(name for name in found if name not in ("queries", "singletons"))
