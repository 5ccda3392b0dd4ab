"""Working through a study: claim a run, do it, write it."""

import contextlib
import shutil
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from oodml import distributed
from oodml.study.folder.claims import PATIENCE, Claim, Claims, heartbeat
from oodml.study.folder.store import Store, cannot_write, is_full
from oodml.study.folder.table import tidy
from oodml.study.plan import Run
from oodml.study.prepare import Context, open_context
from oodml.study.run_artifacts import Keep

Execute = Callable[[Run, Context, Path], pd.DataFrame]
"""Does one run top to bottom: writes its files into the folder, gives its rows."""

POLL = 0.5
"""Seconds between two looks at the runs that other processes work on."""
MEMORY = (
    "\n\nThe memory was not enough. Lower `train.batch_size`, `model.image_size` or the number of "
    'workers, or train on cached features: `model.mode = "head"`.\n'
)


def work(
    folder: Path,
    execute: Execute | None = None,
    device: str = "cpu",
    threads: int | None = None,
    patience: float = PATIENCE,
) -> None:
    """Do runs of the study in `folder` until every run is settled, by this or another process.

    execute: what does a run; `oodml.study.run.execute` by default. threads: of torch.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    store = Store(folder)
    context = open_context(store, device)
    with contextlib.closing(claimed(store, patience)) as runs:
        for planned, claim in runs:
            do(planned, claim, store, context, execute or _execute())


def _execute() -> Execute:
    from oodml.study.run import execute

    return execute


def claimed(
    store: Store, patience: float = PATIENCE
) -> Generator[tuple[dict[str, Any], Claim], None, None]:
    """Claims on the runs that are not settled, one after the other, until all are settled.

    The claim is released when the next is asked for, or when the iteration is abandoned.
    """
    claims = Claims(store.claims, patience)
    waiting = {run["id"]: run for run in store.read_plan()["runs"]}
    while waiting:
        settled = store.finished() | store.failed()
        waiting = {name: run for name, run in waiting.items() if name not in settled}
        busy = True
        for name, run in waiting.items():
            claim = None if store.is_settled(name) else claims.take(name)
            if claim is None:
                continue
            busy = False
            try:
                if not store.is_settled(name):
                    yield run, claim
            finally:
                claims.release(claim)
        if waiting and busy:
            time.sleep(POLL)


def do(
    planned: dict[str, Any], claim: Claim, store: Store, context: Context, execute: Execute
) -> None:
    """One run: its folder is put in place whole, or its traceback is left in `failed/`."""
    folder = None
    started = time.perf_counter()
    try:
        with heartbeat(claim):
            folder = store.unfinished(planned["id"], claim)
            keep = Keep(store, planned, **context.keeping)
            own = replace(context, keep=keep)
            rows = distributed.led(
                (store.folder, planned, execute),
                partial(execute, context.run(planned), own, folder),
            )
            tidy(rows, planned).to_parquet(folder / "rows.parquet", index=False)
            store.publish(planned, folder, time.perf_counter() - started)
    except distributed.PartedError:
        raise
    except Exception as error:
        if is_full(error):
            raise cannot_write(store.folder, error) from error
        if not claim.lost():
            _record(planned, error, store)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _record(planned: dict[str, Any], error: Exception, store: Store) -> None:
    try:
        store.fail(planned["id"], _told(planned, error))
    except OSError as problem:
        raise cannot_write(store.folder, problem) from error


def _told(planned: dict[str, Any], error: Exception) -> str:
    name = f"{planned['label']} on split {planned['split']}, seed {planned['seed']}"
    lacking = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
    return f"{name}\n{traceback.format_exc()}{MEMORY if lacking else ''}"
