"""Workers on this machine: processes that share a study folder."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from oodml.errors import OodmlError
from oodml.study.folder.claims import Claims, this_process
from oodml.study.folder.store import Store
from oodml.study.workers.work import OUT_OF_MEMORY_ADVICE, Execute, work

MAX_DEATHS = 3
"""Number of workers that die with a run before the run counts as failed."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
KILLED = "A worker was killed {deaths} times during this run. Most likely: "
KILLED_AT_START = "most likely because memory does not suffice for this many (--workers)"
FAILED_AT_START = (
    "their error is printed above. If a script calls run_study with a function of its own, "
    'call it under `if __name__ == "__main__":`, because workers import the script'
)


class WorkerPool:
    """Worker processes. A killed worker is replaced; an error in one of them stops all."""

    def __init__(
        self, folder: Path, workers: int, execute: Execute | None, device: str, threads: int
    ) -> None:
        self.store = Store(folder)
        self.execute, self.device, self.threads = execute, device, threads
        self.workers = [self._start(index) for index in range(workers)]
        self.deaths: Counter[str] = Counter()

    def wait(self) -> None:
        while self._check_workers():
            time.sleep(0.1)

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *error: object) -> None:
        """End the workers. What they were doing is dropped, and their claims are released."""
        for process, _ in self.workers:
            process.terminate()
        for process, _ in self.workers:
            process.join(10)
            process.kill()
            process.join()

    def _check_workers(self) -> bool:
        """Replace killed workers and raise reported errors; False when all have ended."""
        working = False
        for index, (process, errors) in enumerate(self.workers):
            alive = process.is_alive()
            with contextlib.suppress(EOFError):
                if errors.poll():
                    raise OodmlError(errors.recv())
            if not alive and process.exitcode:
                self._count_death(process)
                self.workers[index] = self._start(index)
            working = working or alive or bool(process.exitcode)
        return working

    def _start(self, index: int) -> tuple[BaseProcess, "Connection[Any, Any]"]:
        context = process_context()
        errors, report = context.Pipe(duplex=False)
        device = worker_device(self.device, index)
        arguments = (report, self.store.folder, self.execute, device, self.threads)
        process = context.Process(target=_run_worker, args=arguments, daemon=True)
        variables = {name: str(self.threads) for name in THREAD_VARIABLES}
        with environment(variables), without_main_script(self.execute):
            process.start()
        report.close()
        return process, errors

    def _count_death(self, process: BaseProcess) -> None:
        run = self._run_of(process)
        self.deaths[run] += 1
        if self.deaths[run] < MAX_DEATHS:
            return
        if run:
            deaths = KILLED.format(deaths=MAX_DEATHS)
            self.store.record_failure(run, f"{deaths}{OUT_OF_MEMORY_ADVICE.strip()}\n")
            return
        status = process.exitcode or 0
        reason = KILLED_AT_START if status < 0 else FAILED_AT_START
        problem = f"workers exit with status {status} before their first run; {reason}"
        raise OodmlError(problem, "workers", status)

    def _run_of(self, process: BaseProcess) -> str:
        """The run that a worker was killed in; "" if it had none."""
        identity = (process.pid, this_process()["namespace"])
        owners = Claims(self.store.claims).owners()
        own = (one for one in owners if (one[1].get("pid"), one[1].get("namespace")) == identity)
        return max(((owner["modified"], name) for name, owner in own), default=(0, ""))[1]


@contextlib.contextmanager
def without_main_script(execute: Execute | None) -> Iterator[None]:
    """Start processes that do not import the main script, unless `execute` is defined in it.

    Otherwise a script without `if __name__ == "__main__":` would run again in every worker.
    """
    main = sys.modules["__main__"]
    if execute is not None and b"__main__" in pickle.dumps(execute):
        yield
        return
    namespace = vars(main)
    names = [name for name in ("__file__", "__spec__") if name in namespace]
    hidden: dict[str, Any] = {name: namespace.pop(name) for name in names}
    main.__spec__ = None
    try:
        yield
    finally:
        namespace.update(hidden)


def process_context() -> ForkServerContext | SpawnContext:
    """Clean processes; where the system allows, they share one import of the libraries."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["oodml.study.run"])
    return context


def worker_device(device: str, index: int) -> str:
    """The device of a worker; with several GPUs, workers are distributed over them."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{index % torch.cuda.device_count()}"


def _run_worker(
    report: "Connection[Any, Any]", folder: Path, execute: Execute | None, device: str, threads: int
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        work(folder, execute, device, threads)
    except KeyboardInterrupt:
        return
    except OodmlError as error:
        report.send(str(error))
    except Exception:
        report.send(f"a worker stopped:\n{traceback.format_exc()}")


def end_with_parent() -> None:
    """End this process when its parent is gone, even after `kill -9`."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)
