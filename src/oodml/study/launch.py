"""Run a study, or only its search, on any executor."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from oodml import distributed
from oodml.devices import resolve_device
from oodml.errors import OodmlError
from oodml.files import cache_folder, log_cache_failure, replacing
from oodml.images.fingerprint import Log
from oodml.images.image_set import ImageSet
from oodml.model import parse_model_settings
from oodml.model_input import check_images
from oodml.results.plan import StudyPlan
from oodml.shift.files import read_splits, write_splits
from oodml.study import run as study_run
from oodml.study.folder.conflicts import resolve_conflicts
from oodml.study.folder.progress import live_progress
from oodml.study.folder.status import Status, StatusReader
from oodml.study.folder.storage import mirrored
from oodml.study.folder.store import Store, is_disk_full, unwritable_error
from oodml.study.folder.table import ResultsTable
from oodml.study.plan import plan_identity, planned_progression_key, progression_key
from oodml.study.prepare import precompute_features, prepare
from oodml.study.search import trials as search
from oodml.study.spec.study_file import Study
from oodml.study.tracking import check_trackers
from oodml.study.workers.executors import check_executor, run_on_cluster
from oodml.study.workers.local import WorkerPool, worker_device
from oodml.study.workers.work import Execute, work
from oodml.training.checkpoint import CHECKPOINT_SECONDS


@dataclass(frozen=True)
class Launcher:
    """Starts workers for the planned runs of a folder. No option changes the numbers.

    Attributes:
        executor: "local", "ray" or an address "ray://…", "slurm", or "slurm:local" (this machine).
        job_options: Slurm options under their submitit names, e.g. {"slurm_partition": "gpu"}.
        replace: remove the results table and splits of another study from the folder.
        checkpoint_seconds: minimum number of seconds between two checkpoints of a run.
        trackers: such as "tensorboard"; see `oodml.study.tracking`.
        storage: a folder or URL that keeps a copy of the study folder; see `mirrored`.
    """

    workers: int = 1
    threads: int | None = None
    device: str | None = None
    executor: str = "local"
    job_options: Mapping[str, str] = field(default_factory=dict)
    retry: bool = False
    smoke: bool = False
    replace: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    trackers: Sequence[str] = ()
    storage: str | None = None
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def log(self, message: str) -> None:
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @cached_property
    def resolved_device(self) -> str:
        return str(resolve_device(self.device))

    @property
    def artifact_options(self) -> dict[str, Any]:
        return {"checkpoint_seconds": self.checkpoint_seconds, "trackers": tuple(self.trackers)}

    @property
    def prepare_options(self) -> dict[str, Any]:
        options = {"smoke": self.smoke, "device": self.resolved_device, "log": self.log}
        return options | {"artifact_options": self.artifact_options}

    @contextlib.contextmanager
    def open(self, study: Study, folder: str | Path) -> Iterator[Store]:
        """The study folder, once options and what it contains allow a start."""
        resolve_device(self.device)
        try:  # warn before anything is computed if the cache is not writable
            with replacing(probe := cache_folder() / ".writable"):
                pass
            probe.unlink(missing_ok=True)
        except OSError as error:
            log_cache_failure(error)
        check_executor(self.executor)
        check_trackers(self.trackers)
        if distributed.is_distributed() and (self.workers > 1 or self.executor != "local"):
            problem = "processes that train together do one run at a time: omit --workers and --on"
            raise OodmlError(problem, "workers")
        store = Store(Path(folder).resolve())
        store.create()
        copy = mirrored(store.folder, self.storage) if self.storage else contextlib.nullcontext()
        try:
            with copy:
                identity, current = plan_identity(study, self.smoke), study.data.fingerprint
                if removed := resolve_conflicts(store, identity, current, self.replace):
                    self.log(removed)
                yield store
        except OSError as error:
            if is_disk_full(error):
                raise unwritable_error(store.folder, error) from error
            raise

    def search(self, study: Study, store: Store, execute_trial: Execute | None) -> Study:
        """Choose the options of a study that have ranges. Finished trials are not repeated."""
        if study.search is None:
            return study
        images = study.data.open()
        if planned_progression_key(store) != progression_key(study, images):
            prepare(study.model_copy(update={"variants": ()}), store, **self.prepare_options)
        progression = read_splits(store.splits)
        searches = search.method_searches(study, progression, images)
        if not searches:  # a smoke test fixes every key that has a range
            return study.model_copy(update={"search": None})
        split = search.searched_split(progression, study.search)
        trials = Store(store.folder / "search")
        trials.create()
        write_splits(replace(progression, splits=(split,)), trials.splits)
        if self.retry:
            trials.clear_failures()
        labels = ", ".join(one.variant.label for one in searches)
        where = f"on the validation classes of split {split.step}"
        self.log(f"search: {study.search.trials} trials each of {labels}, {where}")
        log = cache(self.log)  # every round needs the same features
        for sampled in search.rounds(searches):
            plan = search.plan_search(study, searches, progression, images)
            self._run_trials(plan, trials, images, execute_trial, log)
            for one, some in sampled:
                one.read_outcomes(some, trials)
            search.write_trials(searches, trials.folder / "trials.csv")
        trials.clean_up()
        return search.with_chosen_options(study, searches, str(split.step), trials.folder)

    def _run_trials(
        self, plan: StudyPlan, trials: Store, images: ImageSet, execute: Execute | None, log: Log
    ) -> None:
        plan = plan.model_copy(update={"keeping": self.artifact_options})
        while missing := trials.unsettled(plan.runs):  # a process that lags may write again
            trials.write_plan(plan)
            if execute is None:
                models = [parse_model_settings(run.model) for run in missing]
                check_images(images, models, log, plan.source)
                precompute_features(missing, images, trials, self.resolved_device, log)
            self.run_workers(trials, execute or study_run.execute_trial)
        if not trials.plan_file.exists() or trials.read_plan() != plan:
            trials.write_plan(plan)

    def run_workers(self, store: Store, execute: Execute | None) -> None:
        device, threads, n = self.resolved_device, self.threads, self.workers
        with live_progress(store, self.console):
            if self.executor != "local":
                arguments = (execute, n, device, threads, self.job_options)
                run_on_cluster(self.executor, store.folder, *arguments)
            elif n == 1:
                with _terminate_as_interrupt():
                    work(store.folder, execute, worker_device(device, 0), threads)
            else:
                threads = threads or max(1, (os.cpu_count() or 1) // n)
                pool = WorkerPool(store.folder, n, execute, device, threads)
                with pool, _terminate_as_interrupt():
                    pool.wait()


def run_study(
    study: Study,
    folder: str | Path,
    *,
    execute: Execute | None = None,
    execute_trial: Execute | None = None,
    **options: Any,
) -> Status:
    """Execute the runs of a study that are missing in `folder`, and return its status.

    If the study has a search, its options are chosen first. Several processes may share the folder.
    `options` are the fields of `Launcher`, e.g. `workers=2`. By default, `execute` trains and tests
    a run, and `execute_trial` trains and validates a trial.
    """
    launcher = Launcher(**options)
    with launcher.open(study, folder) as store:
        study = launcher.search(study, store, execute_trial)
        prepare(study, store, precompute=execute is None, **launcher.prepare_options)
        if launcher.retry:
            store.clear_failures()
        try:
            launcher.run_workers(store, execute)
        finally:
            ResultsTable(store).write()
        status = StatusReader(store).status()
        if not status.missing and not status.running:
            store.clean_up()
    return status


def search_study(
    study: Study, folder: str | Path, *, execute_trial: Execute | None = None, **options: Any
) -> Study:
    """Choose the options of a study that have ranges; the trials are stored in `folder/search`."""
    if study.search is None:
        remedy = "Add `search = 20` (trials of each method) at the top of the file, and ranges."
        raise OodmlError(f"{study.name}: no search. {remedy}", "search")
    launcher = Launcher(**options)
    with launcher.open(study, folder) as store:
        return launcher.search(study, store, execute_trial)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
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
