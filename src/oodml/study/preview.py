"""What a study would run, before anything runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from oodml.datasets import open_images
from oodml.images.image_set import ImageSet
from oodml.progress import format_duration
from oodml.results.plan import RunPlan
from oodml.shift.build import SplitSettings
from oodml.shift.files import read_splits
from oodml.shift.splits import Progression
from oodml.study.estimate import describe_features, measure_runs, split_in_half
from oodml.study.folder.status import StatusReader
from oodml.study.folder.store import Store
from oodml.study.further_data import open_further_data, plan_tests
from oodml.study.plan import plan_runs
from oodml.study.prepare import (
    plan_study,
    planned_progression_key,
    progression_key,
    read_split_file,
)
from oodml.study.search.run_search import replay, with_chosen_options
from oodml.study.search.trials import Trial, method_searches
from oodml.study.spec.consistency import check_class_sizes
from oodml.study.spec.study_file import SplitFile, Study


def preview(study: Study, folder: str | Path, smoke: bool = False) -> str:
    """Describe the runs of a study, which of them have finished, and the time and disk left.

    For a search, it lists the trials that are known; later ones depend on their results. Time and
    disk are estimated from the runs that have finished in `folder`, or from a short measurement.
    Nothing is written to the folder.
    """
    store = Store(Path(folder).resolve())
    images = open_images(study.data.name, **study.data.options)
    check_class_sizes(study.shots, images)
    progression = _known_progression(study, images, store)
    if progression is None:
        return _preview_without_splits(study, images, smoke)
    key = progression_key(study, images)
    tests = plan_tests(open_further_data(study, images), images, progression)
    lines: list[str] = []
    if study.search is not None:
        lines, chosen = _preview_search(study, progression, images, store)
        if chosen is None:
            later = plan_study(study, progression, images, key, smoke, tests).runs
            lines.append("then, with the chosen options:")
            return "\n".join([*lines, *(f"  later  {run.description}" for run in later)])
        study = chosen
    runs = plan_study(study, progression, images, key, smoke, tests).runs
    finished = store.finished_ids()
    for run in runs:
        lines.append(f"  {'done ' if run.id in finished else 'to do'}  {run.description}")
    remaining = [run for run in runs if run.id not in finished]
    count = f"{len(remaining)} of {len(runs)} runs to do"
    if len(remaining) == len(runs):
        return "\n".join([*lines, *_describe_estimate(count, study, images, runs, smoke)])
    return "\n".join([*lines, _describe_remaining(count, store, runs, finished)])


def _preview_without_splits(study: Study, images: ImageSet, smoke: bool) -> str:
    """The variants, and the number of runs if the number of splits is known before building."""
    lines = [_describe_search(study)] if study.search else []
    lines.append("on every split (splits are built when the study runs):")
    for variant in study.variants:
        lines.append(f"  {variant.label}, seeds {', '.join(map(str, variant.seeds))}")
    splits = study.splits
    count = splits.n_splits if isinstance(splits, SplitSettings) else "all"
    if isinstance(splits, SplitSettings) and splits.steps is not None:
        count = len(splits.steps)
    n = count if isinstance(count, int) else 1
    standard = split_in_half(images, study.shots, study.episodes)
    progression = Progression(tuple(replace(standard, step=step) for step in range(n)), "")
    runs = plan_runs(study, progression, images)
    text = (
        f"at most {len(runs)} runs on {n} splits" if n == count else f"{len(runs)} runs per split"
    )
    return "\n".join([*lines, *_describe_estimate(text, study, images, runs, smoke)])


def _describe_estimate(
    count: str, study: Study, images: ImageSet, runs: Sequence[RunPlan], smoke: bool
) -> list[str]:
    """The features to embed, and the time and disk of all runs, from a short measurement."""
    if smoke:
        return [count]
    try:
        lines, features = describe_features(runs, images)
        costs = measure_runs(runs, images, study.episodes)
    except Exception as error:  # user code raises anything
        return [f"{count}; time and disk unknown: {error}"]
    trials = {one.label for one in study.variants if one.ranges} if study.search else set()
    labels = [run.label for run in runs] + [*trials] * (study.search.trials if study.search else 0)
    seconds = features[0] + sum(costs[label][0] for label in labels)
    size = features[1] + sum(costs[label][1] for label in labels)
    return [
        *lines,
        f"{count}: about {format_duration(seconds)} of one worker and {format_size(size)}, "
        "extrapolated from a few steps",
    ]


def _describe_search(study: Study) -> str:
    labels = [variant.label for variant in study.variants if variant.ranges]
    count = 0 if study.search is None else study.search.trials
    return f"search: {count} trials each of {', '.join(labels)}, on validation classes alone"


def _preview_search(
    study: Study, progression: Progression, images: ImageSet, store: Store
) -> tuple[list[str], Study | None]:
    """The lines of the known trials, and the study with the chosen options once all are settled."""
    trials = Store(store.folder / "search")
    searches = method_searches(study, progression, images)
    is_complete = replay(searches, trials)
    lines = [_describe_search(study)]
    for search in searches:
        label = search.variant.label
        for name, one in search.variant.ranges.items():
            lines.append(f"  {label}: {name}, {one.describe()}")
        lines += [_describe_trial(trial, trials) for trial in search.trials]
        if later := search.settings.trials - len(search.trials):
            lines.append(f"  later  {later} more of {label}, sampled when these finish")
    chosen = with_chosen_options(study, searches, "", trials.folder) if is_complete else None
    return lines, chosen


def _describe_trial(trial: Trial, trials: Store) -> str:
    state = "done " if trials.is_settled(trial.run.id) else "to do"
    values = " ".join(f"{name}={value}" for name, value in trial.values.items())
    return f"  {state}  {trial.run.label}, trial {trial.number}: {values or 'defaults'}"


def _known_progression(study: Study, images: ImageSet, store: Store) -> Progression | None:
    if isinstance(study.splits, SplitFile):
        return read_split_file(study.splits, images)
    if planned_progression_key(store) == progression_key(study, images):
        return read_splits(store.splits)
    return None


def _describe_remaining(
    count: str, store: Store, runs: Sequence[RunPlan], finished_ids: set[str]
) -> str:
    """The expected time and disk of the remaining runs, from the finished ones."""
    finished = [run for run in runs if run.id in finished_ids]
    remaining = [run for run in runs if run.id not in finished_ids]
    if not remaining:
        return count
    seconds = StatusReader(store).expected(finished, remaining)
    size = sum(_folder_size(store.runs / run.id) for run in finished) / len(finished)
    needed = f"about {format_duration(seconds)} of one worker and "
    return f"{count}, {needed}{format_size(size * len(remaining))}"


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def format_size(size: float) -> str:
    """Bytes as text, such as "3.1 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
