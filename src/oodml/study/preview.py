"""What a study would run, and the time and disk that it needs, before anything runs."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from oodml.datasets._few import reduce_images
from oodml.devices import resolve_device
from oodml.embedding import embed, feature_cache_file
from oodml.images.fingerprint import no_log
from oodml.images.image_set import ImageSet
from oodml.model import HeadSettings
from oodml.model_input import check_images
from oodml.progress import count_noun, format_duration, format_size, hide_progress
from oodml.results.plan import RunPlan
from oodml.shift.build import SplitSettings
from oodml.shift.episodes import sample_episodes
from oodml.shift.files import read_splits
from oodml.shift.splits import Progression, Split
from oodml.study import plan, prepare
from oodml.study.folder.conflicts import find_difference
from oodml.study.folder.status import StatusReader
from oodml.study.folder.store import Store
from oodml.study.plan import Run
from oodml.study.prepare import Context
from oodml.study.run import execute, test_metrics
from oodml.study.search.trials import method_searches, replay, with_chosen_options
from oodml.study.spec.consistency import check_class_sizes
from oodml.study.spec.study_file import SplitFile, Study
from oodml.study.spec.tables import Problems
from oodml.vectors import VectorSet

HEAD_SAMPLE, FINETUNE_SAMPLE = (16, 8), (8, 4)
"""The numbers of classes and of images per class that are measured, by mode."""
MAX_EVALUATED = 2000
"""Vectors that the evaluation is measured on; its time grows with the square of their number."""

Cost = tuple[float, float]
"""Seconds, and bytes of disk."""


def preview(study: Study, folder: str | Path, smoke: bool = False, replacing: bool = False) -> str:
    """Describe the runs of a study, which of them have finished, and the time and disk left."""
    store, images = Store(Path(folder).resolve()), study.data.open()
    identity = plan.plan_identity(study, smoke)
    find_difference(store, identity, study.data.fingerprint, replacing)
    check_class_sizes(study.shots, images)
    key = plan.progression_key(study, images)
    if isinstance(study.splits, SplitFile):
        progression = prepare.read_split_file(study.splits, images)
    elif plan.planned_progression_key(store) == key:
        progression = read_splits(store.splits)
    else:
        return _preview_without_splits(study, images, smoke)
    tests = prepare.plan_tests(prepare.open_further_data(study, images), images, progression)
    search = study.search is not None
    lines, chosen = _preview_search(study, progression, images, store) if search else ([], study)
    runs = plan.plan_study(chosen or study, progression, images, key, smoke, tests).runs
    if chosen is None:
        later = (f"  later  {run.description}" for run in runs)
        return "\n".join([*lines, "then, with the chosen options:", *later])
    finished = store.finished_ids()
    lines += [f"  {'done ' if run.id in finished else 'to do'}  {run.description}" for run in runs]
    done = [run for run in runs if run.id in finished]
    left = [run for run in runs if run.id not in finished]
    count = f"{len(left)} of {len(runs)} runs to do"
    if not done:
        return "\n".join([*lines, *_describe_estimate(count, chosen, images, runs, smoke)])
    if left:
        files = (file for run in done for file in (store.runs / run.id).iterdir())
        size = sum(file.stat().st_size for file in files) / len(done) * len(left)
        count += f", {_describe_cost(StatusReader(store).expected(done, left), size)}"
    return "\n".join([*lines, count])


def _describe_cost(seconds: float | None, size: float) -> str:
    return f"about {format_duration(seconds)} of one worker and {format_size(size)}"


def _preview_without_splits(study: Study, images: ImageSet, smoke: bool) -> str:
    """The variants, and the number of runs if the number of splits is known before building."""
    lines = [_describe_search(study)] if study.search else []
    lines.append("on every split (splits are built when the study runs):")
    lines += [f"  {one.label}, seeds {', '.join(map(str, one.seeds))}" for one in study.variants]
    splits = study.splits
    assert isinstance(splits, SplitSettings)
    count = splits.n_splits if splits.steps is None else len(splits.steps)
    n = count if isinstance(count, int) else 1
    standard = _split_in_half(images, study.shots, study.episodes)
    standards = tuple(replace(standard, step=step) for step in range(n))
    runs = plan.plan_runs(study, Progression(standards, ""), images)
    size = count_noun(len(runs), "run")
    text = f"at most {size} on {count_noun(n, 'split')}" if n == count else f"{size} per split"
    return "\n".join([*lines, *_describe_estimate(text, study, images, runs, smoke)])


def _describe_estimate(
    count: str, study: Study, images: ImageSet, runs: Sequence[RunPlan], smoke: bool
) -> list[str]:
    if smoke:
        return [count]
    try:
        lines, features = _describe_features(runs, images)
        costs = _measure_runs(runs, images, study.episodes)
    except Exception as error:  # user code raises anything
        with Problems() as corrupt:  # to name all corrupt images
            check_images(images, (), no_log, study.data.model_dump())
        return [f"{count}; time and disk unknown: {[*corrupt, error][0]}"]
    trials = {one.label for one in study.variants if one.ranges} if study.search else set()
    labels = [run.label for run in runs] + [*trials] * (study.search.trials if study.search else 0)
    total = np.sum([features, *(costs[label] for label in labels)], axis=0).tolist()
    return [*lines, f"{count}: {_describe_cost(*total)}, extrapolated from a few steps"]


def _describe_search(study: Study) -> str:
    assert study.search is not None
    labels = [variant.label for variant in study.variants if variant.ranges]
    count = f"{study.search.trials} trials each of {', '.join(labels)}"
    return f"search: {count}, on validation classes alone"


def _preview_search(
    study: Study, progression: Progression, images: ImageSet, store: Store
) -> tuple[list[str], Study | None]:
    trials, searches = Store(store.folder / "search"), method_searches(study, progression, images)
    is_complete = replay(searches, trials)
    lines = [_describe_search(study)]
    for search in searches:
        label = search.variant.label
        for name, one in search.variant.ranges.items():
            lines.append(f"  {label}: {name}, {one.describe()}")
        for trial in search.trials:
            state = "done " if trials.is_settled(trial.run.id) else "to do"
            values = " ".join(f"{name}={value}" for name, value in trial.values.items())
            lines.append(f"  {state}  {label}, trial {trial.number}: {values or 'defaults'}")
        if later := search.settings.trials - len(search.trials):
            lines.append(f"  later  {later} more of {label}, sampled when these finish")
    return lines, with_chosen_options(study, searches, "", trials.folder) if is_complete else None


def _split_in_half(images: ImageSet, shots: Sequence[int], episodes: int) -> Split:
    """A split of the sorted classes in two halves, in place of one that is not built yet."""
    names = images.class_names
    train, test = names[: len(names) // 2], names[len(names) // 2 :]
    sampled = sample_episodes(images.ids.tolist(), images.classes.tolist(), test, shots, episodes)
    return Split(0, tuple(train), tuple(test), 0.0, (), sampled)


def _measure_runs(runs: Sequence[RunPlan], images: ImageSet, episodes: int) -> dict[str, Cost]:
    """The cost of one run of each method, by label, with cached features."""
    wanted, count = len(images) // 2, min(len(images) // 2, MAX_EVALUATED)
    vectors = np.random.default_rng(0).normal(size=(count, int(runs[0].model["dim"])))
    start = time.perf_counter()
    test_metrics(VectorSet(vectors.astype("f4"), images.classes[:count], images.ids[:count]))
    evaluation = (time.perf_counter() - start) * (wanted / count) ** 2
    costs: dict[str, Cost] = {}
    for run in {run.label: run for run in runs}.values():
        is_head = run.model["mode"] == "head"
        key = run.label if is_head else json.dumps([run.model, run.shots], sort_keys=True)
        if key not in costs:
            sample = reduce_images(images, *(HEAD_SAMPLE if is_head else FINETUNE_SAMPLE))
            shots = (2,) if run.shots and np.bincount(sample.labels).min() >= 4 else ()
            split = _split_in_half(sample, shots, episodes)
            context = Context(sample, Progression((split,), ""), resolve_device(None))
            short = replace(plan.run_from_plan(run, split), shots=shots)
            costs[key] = _cost(short, context, len(images) / 2, run.shots, evaluation)
        costs[run.label] = costs[key]
    return costs


def _cost(run: Run, context: Context, n: float, shots: Sequence[int], evaluation: float) -> Cost:
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
    train = run.train.model_copy(update={"epochs": epochs, "refit": False, "warmup_epochs": 0})
    adapt = run.adapt.model_copy(update={"iterations": iterations, "views": 1})
    with TemporaryDirectory() as folder, hide_progress():
        start = time.perf_counter()
        execute(replace(run, train=train, adapt=adapt), context, Path(folder))
        seconds = time.perf_counter() - start
        return seconds, sum(path.stat().st_size for path in Path(folder).iterdir())


def _describe_features(runs: Sequence[RunPlan], images: ImageSet) -> tuple[list[str], Cost]:
    """A line for each network: the images to embed and what is cached; and the total cost."""
    lines, seconds, size = [], 0.0, 0.0
    sample = reduce_images(images, HEAD_SAMPLE[0], 2)
    for model, group in prepare.group_by_network(runs).items():
        if not isinstance(model, HeadSettings):
            continue
        views = (None, *range(max(map(prepare.views_of, group))))
        options = model.model_dump(include={"weights", "image_size", "pooling", "augmentation"})
        count = len(views)
        files = (feature_cache_file(images, model.backbone, options, view) for view in views)
        missing = sum(file is not None and not file.exists() for file in files)
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
