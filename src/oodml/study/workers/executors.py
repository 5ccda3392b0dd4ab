"""Run workers on other machines: Ray and Slurm.

They are started and awaited here; each one calls `work`. Every machine must reach the study folder
by the same path.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from oodml.errors import OodmlError, unknown
from oodml.study.workers.work import Execute, work

EXECUTORS = ("local", "ray", "ray://HOST:PORT", "slurm", "slurm:local")


def check_executor(executor: str) -> None:
    """Check the name of an executor.

    Raises:
        OodmlError: if it is unknown or its package is not installed.
    """
    if executor == "ray" or executor.startswith("ray://"):
        _import("ray", "ray")
    elif executor in ("slurm", "slurm:local"):
        _import("submitit", "slurm")
    elif executor != "local":
        raise unknown("executor", executor, EXECUTORS)


def run_on_cluster(
    executor: str,
    folder: Path,
    execute: Execute | None,
    workers: int,
    device: str,
    threads: int | None,
    job_options: Mapping[str, str],
) -> None:
    """Start workers on the study in `folder`, and return when all of them have ended.

    Args:
        executor: "ray" (this machine), "ray://HOST:PORT", "slurm", or "slurm:local" (submitit's
            own executor on this machine).
        folder, execute, device, threads: see `work`.
        workers: number of workers.
        job_options: Slurm options under their submitit names.
    """
    arguments = (folder, execute, device, threads)
    if executor == "ray" or executor.startswith("ray://"):
        _run_on_ray(None if executor == "ray" else executor, workers, arguments)
    else:
        _run_on_slurm(executor.partition(":")[2] or "slurm", workers, arguments, job_options)


def _run_on_ray(address: str | None, workers: int, arguments: tuple[Any, ...]) -> None:
    ray = _import("ray", "ray")
    cuda = str(arguments[2]).startswith("cuda")
    with ray.init(address=address, num_cpus=None if address else workers, log_to_driver=False):
        task = ray.remote(num_cpus=1, num_gpus=1 if cuda else 0, max_retries=0)(work)
        ray.get([task.remote(*arguments) for _ in range(workers)])


def _run_on_slurm(
    cluster: str, workers: int, arguments: tuple[Any, ...], options: Mapping[str, str]
) -> None:
    submitit = _import("submitit", "slurm")
    executor = submitit.AutoExecutor(folder=Path(arguments[0]) / "slurm", cluster=cluster)
    executor.update_parameters(**{key: _parse_number(value) for key, value in options.items()})
    jobs = [executor.submit(work, *arguments) for _ in range(workers)]
    try:
        for job in jobs:
            job.result()
    finally:
        for job in jobs:
            job.cancel(check=False)


def _import(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise OodmlError(
            f"{name} is not installed. Run `pip install 'oodml[{extra}]'`.",
            location="executor",
            given=name,
        ) from error


def _parse_number(value: str) -> int | str:
    return int(value) if value.isdigit() else value
