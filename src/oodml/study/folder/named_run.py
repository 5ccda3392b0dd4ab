"""Runs by name, as RESULTS:METHOD[:SPLIT[:SEED]] instead of a hash."""

from pathlib import Path

from oodml.errors import unknown
from oodml.results.schema import STANDARD_SPLIT
from oodml.study.folder.store import Store


def run_folder(text: str | Path) -> Path | None:
    """The folder of the finished run RESULTS:METHOD[:SPLIT[:SEED]], or None if it names no run.

    By default, the split is the standard one, or else the easiest, and the seed the smallest.
    """
    folder, colon, name = str(text).partition(":")
    store = Store(Path(folder).expanduser())
    if not colon or Path(text).exists() or not store.plan_file.exists():
        return None
    finished = store.finished_ids()
    runs = [run for run in store.read_plan().runs if run.id in finished]
    labels = [one for one in {run.label for run in runs} if f"{name}:".startswith(f"{one}:")]
    if not labels:
        raise unknown("method", name, {run.label for run in runs}, folder)
    label = max(labels, key=len)
    split, _, seed = name[len(label) + 1 :].partition(":")
    runs = sorted((run for run in runs if run.label == label), key=lambda run: run.shift)
    steps = [run.split for run in runs]
    split = split or (STANDARD_SPLIT if STANDARD_SPLIT in steps else steps[0])
    if split not in steps:
        raise unknown("split", split, set(steps), folder)
    seeds = {str(run.seed): run for run in runs if run.split == split}
    seed = seed or min(seeds, key=int)
    if seed not in seeds:
        raise unknown("seed", seed, seeds, folder)
    return store.runs / seeds[seed].id
