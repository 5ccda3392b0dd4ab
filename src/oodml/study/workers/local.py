"""Workers on this machine: processes that share a study folder."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from oodml.errors import OodmlError
from oodml.study.folder.claims import Claims, me
from oodml.study.folder.store import Store
from oodml.study.workers.work import Execute, work

DEATHS = 3
"""Workers that a run may cost before it counts as failed."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
KILLED = (
    "A worker was killed {deaths} times while doing this run, most likely because the memory was "
    "not enough. Lower `train.batch_size`, `model.image_size` or the number of workers, or train "
    'on cached features: `model.mode = "head"`.\n'
)


class Pool:
    """Worker processes; one that is killed is replaced, one that meets an error stops all."""

    def __init__(
        self, folder: Path, workers: int, execute: Execute | None, device: str, threads: int,
        deaths: int = DEATHS,
    ) -> None:  # fmt: skip
        self.store = Store(folder)
        self.execute, self.device, self.threads, self.deaths = execute, device, threads, deaths
        self.workers = [self._start(index) for index in range(workers)]
        self.killed: dict[str, int] = {}

    def wait(self) -> None:
        """Return when every worker has found nothing more to do.

        Raises the error that a worker met.
        """
        while self._working():
            time.sleep(0.1)

    def _working(self) -> bool:
        """Look after every worker once; False when all are through."""
        working = False
        for index, (process, answers) in enumerate(self.workers):
            alive = process.is_alive()
            _raise_told(answers)
            if not alive and process.exitcode:
                self._note_death(process)
                self.workers[index] = self._start(index)
            working = working or alive or bool(process.exitcode)
        return working

    def stop(self) -> None:
        """End the workers; what they were doing is dropped, their claims released."""
        for process, _ in self.workers:
            process.terminate()
        for process, _ in self.workers:
            process.join(10)
            process.kill()
            process.join()

    def _start(self, index: int) -> tuple[BaseProcess, "Connection[Any, Any]"]:
        context = processes()
        answers, answer = context.Pipe(duplex=False)
        process = context.Process(
            target=_worker,
            args=(
                answer,
                self.store.folder,
                self.execute,
                pinned(self.device, index),
                self.threads,
            ),
            daemon=True,
        )
        with _environment({name: str(self.threads) for name in THREAD_VARIABLES}):
            process.start()
        answer.close()
        return process, answers

    def _note_death(self, process: BaseProcess) -> None:
        """A run that keeps killing its workers counts as failed."""
        run = self._run_of(process)
        self.killed[run] = self.killed.get(run, 0) + 1
        if self.killed[run] < self.deaths:
            return
        if not run:
            raise OodmlError(
                f"workers end with status {process.exitcode} before they do a run; most likely "
                "the memory is not enough for so many (--workers)"
            )
        self.store.fail(run, KILLED.format(deaths=self.deaths))

    def _run_of(self, process: BaseProcess) -> str:
        """The run that a worker did when it was killed; "" if it had none."""
        here = (process.pid, me()["place"])
        held = [
            (holder["modified"], name)
            for name, holder in Claims(self.store.claims).holders()
            if (holder.get("pid"), holder.get("place")) == here
        ]
        return max(held, default=(0, ""))[1]


def processes() -> ForkServerContext | SpawnContext:
    """Clean processes; where the system can, they share one import of the libraries."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["oodml.study.run"])
    return context


def pinned(device: str, index: int) -> str:
    """The device of a worker: with several GPUs, each worker its own in turn."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{index % torch.cuda.device_count()}"


def _raise_told(answers: "Connection[Any, Any]") -> None:
    with contextlib.suppress(EOFError):
        if answers.poll():
            raise OodmlError(answers.recv())


def _worker(
    answer: "Connection[Any, Any]", folder: Path, execute: Execute | None, device: str, threads: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        work(folder, execute, device, threads)
    except KeyboardInterrupt:
        return
    except OodmlError as error:
        answer.send(str(error))
    except Exception:
        answer.send(f"a worker stopped:\n{traceback.format_exc()}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _follow_parent() -> None:
    """End this process when the one that started it is gone, were it by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
