"""What a study would run, before anything is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oodml.datasets import open_images
from oodml.images import ImageSet
from oodml.shift.files import read_splits
from oodml.shift.splits import Progression
from oodml.study.context import given_splits, plan_of, planned_key, progression_key
from oodml.study.file import SplitFile, Study
from oodml.study.status import Watch, named, told_seconds
from oodml.study.store import Store


def preview(study: Study, folder: str | Path, smoke: bool = False) -> str:
    """The runs of a study, whether each is done, and the time and disk that the rest will take.

    Writes nothing. Time and disk are judged by the runs that are finished in `folder`.
    """
    store = Store(Path(folder).resolve())
    images = open_images(study.data.name, **study.data.options)
    progression = _known_progression(study, images, store)
    if progression is None:
        arms = [f"  {arm.label}, seeds {', '.join(map(str, arm.seeds))}" for arm in study.arms]
        return "\n".join(["on every split (the splits are built when the study is run):", *arms])
    key = progression_key(study, images)
    runs = plan_of(study, progression, images, key, smoke)["runs"]
    done = store.finished()
    left = [run for run in runs if run["id"] not in done]
    lines = [f"  {'done ' if run['id'] in done else 'to do'}  {named(run)}" for run in runs]
    return "\n".join([*lines, _expected(store, runs, left)])


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
