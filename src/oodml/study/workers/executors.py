"""Run a study by Ray tasks, or by Slurm jobs, which reach the study folder by the same path."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from oodml.errors import OodmlError, error_at, require, unknown
from oodml.study.folder.store import Store
from oodml.study.workers.work import Execute, work

EXECUTORS = ("local", "ray", "ray://HOST:PORT", "slurm", "slurm:local")


def check_executor(executor: str) -> None:
    if executor == "ray" or executor.startswith("ray://"):
        require("ray", "ray")
    elif executor in ("slurm", "slurm:local"):
        require("slurm", "submitit")
        if executor == "slurm" and shutil.which("srun") is None:
            problem = "this machine has no `srun`. Start the study on a login node of the cluster"
            remedy = "or try slurm:local here. `--dry-run` prints the job script."
            raise OodmlError(f"executor slurm: {problem}, {remedy}", "executor", executor)
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
    """Start workers on the study in `folder`, and return when all of them have ended."""
    if executor == "ray" or executor.startswith("ray://"):
        from oodml.study.workers.ray_runs import run_on_ray

        resources = {name: _parse_number(value) for name, value in job_options.items()}
        run_on_ray(executor, Store(folder), execute, workers, device, threads, resources)
        return
    cluster = executor.partition(":")[2] or "slurm"
    executors = require("slurm", "submitit")
    slurm = executors.AutoExecutor(folder=Path(folder) / "slurm", cluster=cluster)
    try:
        slurm.update_parameters(**{k: _parse_number(value) for k, value in job_options.items()})
    except (NameError, TypeError, ValueError) as error:
        raise error_at("--job", f"{error}", tuple(job_options)) from error
    jobs = [slurm.submit(work, folder, execute, device, threads) for _ in range(workers)]
    try:
        for job in jobs:
            job.result()
    finally:
        for job in jobs:
            job.cancel(check=False)


def slurm_script(folder: Path, workers: int, options: Mapping[str, str]) -> str:
    """The job script that each of the workers is submitted with."""
    slurm = require("slurm", "submitit.slurm.slurm")
    names = slurm.SlurmExecutor._equivalence_dict()
    keys = {key: names.get(key, key.removeprefix("slurm_")) for key in options}
    parameters = {keys[key]: _parse_number(value) for key, value in options.items()}
    logs = Path(folder).resolve() / "slurm"
    command = f"python -u -m submitit.core._submit {logs}"
    try:
        script = slurm._make_sbatch_string(command, logs, **parameters)
    except TypeError as error:
        raise error_at("--job", f"{error}", tuple(options)) from error
    return f"# job script of each of {workers} workers\n{script}"


def _parse_number(value: str) -> int | float | str:
    try:
        return int(value) if value.isdigit() else float(value)
    except ValueError:
        return value
