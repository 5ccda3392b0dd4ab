"""Work through a study: claim a run, execute it, publish it."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch

from oodml import distributed
from oodml.devices import describe_hardware, resolve_device
from oodml.progress import hide_progress
from oodml.results.plan import RunPlan
from oodml.results.schema import result_rows
from oodml.study.folder.claims import PATIENCE, Claim, Claims, heartbeat
from oodml.study.folder.store import Store, failure_text, is_disk_full, unwritable_error
from oodml.study.folder.table import write_run_rows
from oodml.study.plan import Run
from oodml.study.prepare import Context, RunArtifacts, open_context

T = TypeVar("T")
Execute = Callable[[Run, Context, Path], pd.DataFrame]
"""Executes a run: writes its files into the folder and returns its rows of results."""

POLL = 0.5
"""Seconds between two checks of the runs that other processes work on."""
OUT_OF_MEMORY_ADVICE = (
    "\n\nOut of memory. Lower `train.batch_size`, `model.image_size`, or the number of workers, "
    'or train on cached features: `model.mode = "head"`.\n'
)


def work(
    folder: Path,
    execute: Execute | None = None,
    device: str = "cpu",
    threads: int | None = None,
    patience: float = PATIENCE,
) -> None:
    """Execute runs of a study until every run has finished or failed here or in other processes."""
    if threads is not None:
        torch.set_num_threads(threads)
    store = Store(folder)
    context = open_context(store, device)
    with contextlib.closing(claim_runs(store, patience)) as runs:
        for run, claim in runs:
            execute_run(run, claim, store, context, execute or default_execute())


def default_execute() -> Execute:
    from oodml.study.run import execute

    return execute


def claim_runs(
    store: Store, patience: float = PATIENCE
) -> Generator[tuple[RunPlan, Claim], None, None]:
    """Yield runs that are not settled, each with its claim, until all runs are settled."""
    claims = Claims(store.claims, patience)
    waiting = {run.id: run for run in store.read_plan().runs}
    while waiting:
        waiting = {run.id: run for run in store.unsettled(waiting.values())}
        all_taken = True
        for name, run in waiting.items():
            if store.is_settled(name) or (claim := claims.take(name)) is None:
                continue
            all_taken = False
            try:
                if not store.is_settled(name):
                    yield run, claim
            finally:
                claims.release(claim)
        if waiting and all_taken:
            time.sleep(POLL)


def execute_run(
    run: RunPlan, claim: Claim, store: Store, context: Context, execute: Execute
) -> None:
    """Execute one run, and publish its folder or record its traceback in `failed/`."""
    folder = None
    started = time.perf_counter()
    try:
        with heartbeat(claim), hide_progress():  # the study shows which runs are running
            folder = store.create_unfinished(run.id, claim)
            artifacts = RunArtifacts(store, run, **context.artifact_options)
            own_context = replace(context, artifacts=artifacts)
            share = partial(execute, context.run(run), own_context, folder)
            rows = distributed.lead_task((store.folder, run, execute), share)
            write_run_rows(result_rows(rows, run.identity, run.test_shifts), folder)
            seconds = time.perf_counter() - started
            store.publish(run, folder, seconds, describe_hardware(context.device))
    except distributed.OutOfSyncError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise unwritable_error(store.folder, error) from error
        if not claim.is_lost():
            _record_failure(run, error, store, folder)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _record_failure(run: RunPlan, error: Exception, store: Store, folder: Path | None) -> None:
    out_of_memory = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
    advice = OUT_OF_MEMORY_ADVICE if out_of_memory else ""
    try:
        if folder is not None and (folder / "rows.parquet").exists():
            target = store.failed_folder(run.id)  # with what the run had measured
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
        store.record_failure(run.id, failure_text(run, error, advice))
    except OSError as problem:
        raise unwritable_error(store.folder, problem) from error


def lead_or_follow(lead: Callable[[str], T], device: str | None, threads: int | None) -> T | None:
    """Call `lead` with its device in the leading process; follow it in the others."""
    own_device = distributed.join_processes(str(resolve_device(device)))
    result = None
    if distributed.is_leader():
        result = lead(own_device)
        distributed.dismiss_followers()
    else:
        follow(own_device, threads)
    distributed.leave_processes()
    return result


def follow(device: str, threads: int | None) -> None:
    """Take part in every run that the leading process executes, and write nothing."""
    if threads is not None:
        torch.set_num_threads(threads)
    contexts: dict[Path, Context] = {}
    for folder, run, execute in distributed.received_tasks():
        if folder not in contexts:
            contexts[folder] = open_context(Store(folder), device)
        context = contexts[folder]
        with tempfile.TemporaryDirectory() as scratch:
            try:
                distributed.run_on_all(partial(execute, context.run(run), context, Path(scratch)))
            except distributed.OutOfSyncError:
                raise
            except Exception:  # an error of all processes, which the leader records
                continue
