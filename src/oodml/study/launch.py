"""Running a study, whatever does the work."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from oodml import distributed
from oodml.embedding import default_device
from oodml.errors import OodmlError
from oodml.study.folder.progress import shown
from oodml.study.folder.status import Status, Watch
from oodml.study.folder.store import Store, cannot_write, is_full
from oodml.study.folder.table import Table
from oodml.study.prepare import prepare
from oodml.study.search.run_search import search
from oodml.study.spec.study_file import Study
from oodml.study.tracking import check_trackers
from oodml.study.workers.executors import check_place, work_on
from oodml.study.workers.local import Pool, pinned
from oodml.study.workers.work import Execute, work
from oodml.training.checkpoint import CHECKPOINT_SECONDS


def run_study(
    study: Study,
    folder: str | Path,
    *,
    execute: Execute | None = None,
    trial: Execute | None = None,
    workers: int = 1,
    threads: int | None = None,
    device: str | None = None,
    retry: bool = False,
    smoke: bool = False,
    on: str = "local",
    job: Mapping[str, str] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    track: Sequence[str] = (),
) -> Status:
    """Do the runs of a study that are missing in `folder`; gives where it then stands.

    A study with a search has its options chosen first, see `search_study`.

    workers: processes; 1 works in this process. threads: of each worker's torch, by default the
    cores shared out. retry: do failed runs again. smoke: two splits only, the easiest and hardest.
    on: "local", "ray" or an address "ray://…", "slurm", or "slurm:local" for submitit's own.
    job: options of Slurm's jobs as submitit names them, e.g. {"slurm_partition": "gpu"}.
    checkpoint_seconds: between two checkpoints of a run, at the least. track: trackers, such as
    "tensorboard"; see `oodml.study.tracking`.
    """
    store = Store(Path(folder).resolve())
    place = _Place(on, workers, threads, device or str(default_device()), job or {})
    check_place(on)
    trackers = check_trackers(track)
    if smoke:
        _refuse_results(store)
    store.prepare()
    with _full_disk_told(store):
        keeping = {"checkpoint_seconds": checkpoint_seconds, "trackers": trackers}
        study = search(
            study, store, place.do, trial=trial, device=place.device, retry=retry, say=place.say,
            keeping=keeping,
        )  # fmt: skip
        prepare(
            study, store, smoke, place.device, embedding=execute is None, say=place.say,
            keeping=keeping,
        )  # fmt: skip
        if retry:
            for run in store.failed():
                store.failure(run).unlink(missing_ok=True)
        try:
            place.do(store, execute)
        finally:
            Table(store).write()
        status = Watch(store).status()
        if not status.missing and not status.running:
            store.tidy_up()
    return status


def _refuse_results(store: Store) -> None:
    """A smoke run must not take the place of a study's results."""
    if (store.folder / "plan.json").exists() and not store.read_plan().get("smoke"):
        raise OodmlError(f"{store.folder}: holds a study, whose results a smoke run would replace; "
                         "give another folder with --out")  # fmt: skip


def search_study(
    study: Study,
    folder: str | Path,
    *,
    trial: Execute | None = None,
    workers: int = 1,
    threads: int | None = None,
    device: str | None = None,
    retry: bool = False,
    on: str = "local",
    job: Mapping[str, str] | None = None,
) -> Study:
    """The study with the options that its search chooses; what is in `folder/search` is kept.

    trial: what does a trial, by default a training that only validates. The others: `run_study`.
    Raises OodmlError if the study has no search, or every trial of a method failed.
    """
    if study.search is None:
        raise OodmlError(f"{study.name}: no search; add `search = 20` (trials of each method) at "
                         "the top of the file, and ranges of options")  # fmt: skip
    store = Store(Path(folder).resolve())
    place = _Place(on, workers, threads, device or str(default_device()), job or {})
    check_place(on)
    store.prepare()
    with _full_disk_told(store):
        return search(
            study, store, place.do, trial=trial, device=place.device, retry=retry, say=place.say
        )


@dataclass(frozen=True)
class _Place:
    """Where planned runs are done, and by how many."""

    on: str
    workers: int
    threads: int | None
    device: str
    job: Mapping[str, str]
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def do(self, store: Store, execute: Execute | None) -> None:
        """Have the runs that are planned in a store done, and show how it gets on."""
        if distributed.several() and (self.workers > 1 or self.on != "local"):
            raise OodmlError("processes that train a run together do one run at a time: leave out "
                             "--workers and --on")  # fmt: skip
        with shown(store, self.console):
            if self.on == "local":
                _work_here(store, execute, self.workers, self.threads, self.device)
            else:
                work_on(
                    self.on, store.folder, execute, self.workers, self.device, self.threads,
                    self.job,
                )  # fmt: skip


def _work_here(
    store: Store, execute: Execute | None, workers: int, threads: int | None, device: str
) -> None:
    if workers == 1:
        with _terminable():
            work(store.folder, execute, pinned(device, 0), threads)
    else:
        cores = os.cpu_count() or 1
        pool = Pool(store.folder, workers, execute, device, threads or max(1, cores // workers))
        try:
            with _terminable():
                pool.wait()
        finally:
            pool.stop()


@contextlib.contextmanager
def _full_disk_told(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise cannot_write(store.folder, error) from error
        raise


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Being asked to end (as by a batch system) is the same as Ctrl-C: what runs is dropped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
