"""Workers elsewhere: Ray and Slurm. They are started and waited for here; what they do is `work`.

The study folder must be reachable by its path from every machine.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from oodml.errors import OodmlError, unknown
from oodml.study.workers.work import Execute, work

PLACES = ("local", "ray", "ray://HOST:PORT", "slurm", "slurm:local")


def check_place(on: str) -> None:
    """Raise an error if `on` is no place to work, or its engine is not installed."""
    if on == "ray" or on.startswith("ray://"):
        _engine("ray", "ray")
    elif on in ("slurm", "slurm:local"):
        _engine("submitit", "slurm")
    elif on != "local":
        raise unknown("place to work", on, PLACES)


def work_on(
    on: str,
    folder: Path,
    execute: Execute | None,
    workers: int,
    device: str,
    threads: int | None,
    options: Mapping[str, str],
) -> None:
    """Have so many workers do the study in `folder`; return when all are through.

    on: "ray" (this machine), "ray://HOST:PORT", "slurm", or "slurm:local" (submitit's own
    executor on this machine). options: for Slurm's jobs, as submitit names them.
    """
    arguments = (folder, execute, device, threads)
    if on == "ray" or on.startswith("ray://"):
        _on_ray(None if on == "ray" else on, workers, arguments)
    else:
        _on_slurm(on.partition(":")[2] or "slurm", workers, arguments, options)


def _on_ray(address: str | None, workers: int, arguments: tuple[Any, ...]) -> None:
    ray = _engine("ray", "ray")
    cuda = str(arguments[2]).startswith("cuda")
    with ray.init(address=address, num_cpus=None if address else workers, log_to_driver=False):
        task = ray.remote(num_cpus=1, num_gpus=1 if cuda else 0, max_retries=0)(work)
        ray.get([task.remote(*arguments) for _ in range(workers)])


def _on_slurm(
    cluster: str, workers: int, arguments: tuple[Any, ...], options: Mapping[str, str]
) -> None:
    submitit = _engine("submitit", "slurm")
    executor = submitit.AutoExecutor(folder=Path(arguments[0]) / "slurm", cluster=cluster)
    executor.update_parameters(**{key: _number(value) for key, value in options.items()})
    jobs = [executor.submit(work, *arguments) for _ in range(workers)]
    try:
        for job in jobs:
            job.result()
    finally:
        for job in jobs:
            job.cancel(check=False)


def _engine(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise OodmlError(f"{name} is not installed; pip install 'oodml[{extra}]'") from error


def _number(value: str) -> int | str:
    return int(value) if value.isdigit() else value
