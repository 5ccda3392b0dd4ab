"""The expected time and disk of runs, extrapolated from a few steps on a few images."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from oodml.datasets._few import reduce_images
from oodml.devices import resolve_device
from oodml.embedding import embed, is_cached
from oodml.images.image_set import ImageSet
from oodml.model import HeadSettings
from oodml.progress import format_duration, hide_progress
from oodml.results.plan import RunPlan
from oodml.shift.episodes import sample_episodes
from oodml.shift.splits import Progression, Split
from oodml.study.plan import Run, run_from_plan
from oodml.study.prepare import Context, group_by_network
from oodml.study.run import execute, test_metrics
from oodml.vectors import VectorSet

HEAD_SAMPLE, FINETUNE_SAMPLE = (16, 8), (8, 4)
"""The numbers of classes and of images per class that are measured, by mode."""
MAX_EVALUATED = 2000
"""Vectors that the evaluation is measured on; its time grows with the square of their number."""

Cost = tuple[float, float]
"""Seconds, and bytes of disk."""


def split_in_half(images: ImageSet, shots: Sequence[int], episodes: int) -> Split:
    """A split of the sorted classes in two halves, in place of one that is not built yet."""
    names = images.class_names
    train, test = names[: len(names) // 2], names[len(names) // 2 :]
    sampled = sample_episodes(images.ids.tolist(), images.classes.tolist(), test, shots, episodes)
    return Split(0, tuple(train), tuple(test), 0.0, (), sampled)


def measure_runs(runs: Sequence[RunPlan], images: ImageSet, episodes: int) -> dict[str, Cost]:
    """The cost of one run of each method, by label, with cached features.

    Methods that train the same whole network are measured once; it takes most of their time.
    """
    evaluation = _seconds_of_evaluation(images, int(runs[0].model["dim"]))
    costs: dict[str, Cost] = {}
    measured: dict[str, Cost] = {}
    for run in {run.label: run for run in runs}.values():
        is_head = run.model["mode"] == "head"
        key = run.label if is_head else json.dumps([run.model, run.shots], sort_keys=True)
        if key not in measured:
            sample = reduce_images(images, *(HEAD_SAMPLE if is_head else FINETUNE_SAMPLE))
            shots = (2,) if run.shots and np.bincount(sample.labels).min() >= 4 else ()
            split = split_in_half(sample, shots, episodes)
            context = Context(sample, Progression((split,), ""), resolve_device(None))
            short = replace(run_from_plan(run, split), shots=shots)
            measured[key] = _cost(short, context, len(images) / 2, run.shots, evaluation)
        costs[run.label] = measured[key]
    return costs


def _cost(run: Run, context: Context, n: float, shots: Sequence[int], evaluation: float) -> Cost:
    """The cost of a run that trains and tests on n images each."""
    is_head, sampled = isinstance(run.model, HeadSettings), len(context.images) / 2
    _measure(run, context, 1, 1)  # loads the network, and caches features
    fixed, size = _measure(run, context, 1, 2)
    epochs = 6 if is_head else 2
    step = max(0.0, _measure(run, context, epochs, 2)[0] - fixed) / (epochs - 1)
    if not is_head:  # the network's time is proportional to the number of images
        step *= max(1.0, run.train.batch_size / sampled)
        evaluation += fixed / (2 * sampled) * n
    steps = max(1.0, n / run.train.batch_size) * run.train.epochs * (1 + run.train.refit)
    seconds = fixed + evaluation + step * steps
    if run.shots:
        adaptation = max(0.0, _measure(run, context, 1, 12)[0] - fixed) / 10
        seconds += adaptation * sum(run.adapt.steps(count) for count in shots)
    return seconds, size + 4.0 * n * run.model.dim


def _measure(run: Run, context: Context, epochs: int, iterations: int) -> Cost:
    """The cost of a run with fewer epochs and adaptation steps."""
    train = run.train.model_copy(update={"epochs": epochs, "refit": False, "warmup_epochs": 0})
    adapt = run.adapt.model_copy(update={"iterations": iterations, "views": 1})
    with TemporaryDirectory() as folder, hide_progress():
        start = time.perf_counter()
        execute(replace(run, train=train, adapt=adapt), context, Path(folder))
        seconds = time.perf_counter() - start
        return seconds, sum(path.stat().st_size for path in Path(folder).iterdir())


def _seconds_of_evaluation(images: ImageSet, dim: int) -> float:
    """The seconds that the metrics of half of the images take."""
    wanted = len(images) // 2
    count = min(wanted, MAX_EVALUATED)
    vectors = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    start = time.perf_counter()
    test_metrics(VectorSet(vectors, images.classes[:count], images.ids[:count]))
    return (time.perf_counter() - start) * (wanted / count) ** 2


def describe_features(runs: Sequence[RunPlan], images: ImageSet) -> tuple[list[str], Cost]:
    """A line for each network: the images to embed and what is cached; and the total cost."""
    lines, seconds, size = [], 0.0, 0.0
    sample = reduce_images(images, HEAD_SAMPLE[0], 2)
    for model, group in group_by_network(runs).items():
        if not isinstance(model, HeadSettings):
            continue
        count = 1 + max(max(r.model["views"], r.adapt["views"] if r.shots else 0) for r in group)
        options = model.model_dump(include={"weights", "image_size", "pooling", "augmentation"})
        views = (None, *range(count - 1))
        missing = sum(not is_cached(images, model.backbone, options, view) for view in views)
        line = f"features of {model.backbone}: {count - missing} of {count} views of "
        line += f"{len(images):,} images are cached"
        if missing:
            with hide_progress():
                embed(sample.select(np.arange(1)), model.backbone, cache=False, **options)
                start = time.perf_counter()
                vectors = embed(sample, model.backbone, cache=False, **options).vectors
            needed = (time.perf_counter() - start) / len(sample) * len(images) * missing
            seconds, size = seconds + needed, size + 8.0 * vectors.shape[1] * len(images) * missing
            line += f"; {missing * len(images):,} images to embed, about {format_duration(needed)}"
        lines.append(line)
    return lines, (seconds, size)
