"""What a study would run, before anything is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oodml.datasets import open_images
from oodml.images.image_set import ImageSet
from oodml.shift.files import read_splits
from oodml.shift.splits import Progression
from oodml.study.folder.status import Watch, named, told_seconds
from oodml.study.folder.store import Store
from oodml.study.prepare import given_splits, plan_of, planned_key, progression_key
from oodml.study.search.run_search import replayed, with_chosen
from oodml.study.search.trials import Trial, method_searches
from oodml.study.spec.study_file import SplitFile, Study


def preview(study: Study, folder: str | Path, smoke: bool = False) -> str:
    """The runs of a study, whether each is done, and the time and disk that the rest will take.

    Of a search, the trials that are known already; later ones depend on what these give. Writes
    nothing. Time and disk are judged by the runs that are finished in `folder`.
    """
    store = Store(Path(folder).resolve())
    images = open_images(study.data.name, **study.data.options)
    progression = _known_progression(study, images, store)
    if progression is None:
        search = [_planned_search(study)] if study.search else []
        variants = [
            f"  {variant.label}, seeds {', '.join(map(str, variant.seeds))}"
            for variant in study.variants
        ]
        head = "on every split (the splits are built when the study is run):"
        return "\n".join([*search, head, *variants])
    key = progression_key(study, images)
    searched: list[str] = []
    if study.search is not None:
        searched, chosen = _search(study, progression, images, store)
        if chosen is None:
            later = plan_of(study, progression, images, key, smoke)["runs"]
            runs_then = [f"  later  {named(run)}" for run in later]
            return "\n".join([*searched, "then, with the options chosen:", *runs_then])
        study = chosen
    runs = plan_of(study, progression, images, key, smoke)["runs"]
    done = store.finished()
    left = [run for run in runs if run["id"] not in done]
    lines = [f"  {'done ' if run['id'] in done else 'to do'}  {named(run)}" for run in runs]
    return "\n".join([*searched, *lines, _expected(store, runs, left)])


def _planned_search(study: Study) -> str:
    """One line: what will be searched."""
    searched = [variant.label for variant in study.variants if variant.ranges]
    count = 0 if study.search is None else study.search.trials
    return f"search: {count} trials of each of {', '.join(searched)}, on validation classes alone"


def _search(
    study: Study, progression: Progression, images: ImageSet, store: Store
) -> tuple[list[str], Study | None]:
    """The trials that are known, and the study with what they choose, if all are done."""
    trials = Store(store.folder / "search")
    searches = method_searches(study, progression, images)
    through = replayed(searches, trials)
    lines = [_planned_search(study)]
    for one in searches:
        lines += [f"  {one.variant.label}: {name}, {space.told()}" for name, space in
                  one.variant.ranges.items()]  # fmt: skip
        lines += [_told_trial(trial, trials) for trial in one.trials]
        if later := one.settings.trials - len(one.trials):
            lines.append(
                f"  later  {later} more of {one.variant.label}, drawn from what these give"
            )
    return lines, with_chosen(study, searches, "", trials.folder) if through else None


def _told_trial(trial: Trial, trials: Store) -> str:
    done = "done " if trials.is_settled(trial.run.id) else "to do"
    values = " ".join(f"{name}={value}" for name, value in trial.values.items())
    return f"  {done}  {trial.run.label}, trial {trial.number}: {values or 'defaults'}"


def _known_progression(study: Study, images: ImageSet, store: Store) -> Progression | None:
    if isinstance(study.splits, SplitFile):
        return given_splits(study.splits, images)
    if planned_key(store) == progression_key(study, images):
        return read_splits(store.folder / "splits.json")
    return None


def _expected(store: Store, runs: list[dict[str, Any]], left: list[dict[str, Any]]) -> str:
    """One line: how many runs are left, and what they will take."""
    finished = [run for run in runs if run not in left]
    seconds = Watch(store).expected(finished, left)
    size = sum(_size(store, run) for run in finished) / max(1, len(finished)) * len(left)
    told = f"{len(left)} of {len(runs)} runs to do"
    if not finished or not left:
        return told + (", time and disk unknown until one is done" if left else "")
    return f"{told}, about {told_seconds(seconds)} of one worker and {told_size(size)}"


def _size(store: Store, run: Mapping[str, Any]) -> int:
    return sum(path.stat().st_size for path in (store.runs / run["id"]).iterdir())


def told_size(size: float) -> str:
    """Bytes in words: "3.1 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
