"""The study folder. A run is finished when `runs/<id>` exists: it is written elsewhere."""

import contextlib
import functools
import os
import shutil
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

from oodml.errors import OodmlError, error_at
from oodml.files import replacing, write_text
from oodml.results import plan as plans
from oodml.results.plan import EXTERNAL, FinishedRun, RunPlan, StudyPlan, read_run
from oodml.study.folder.claims import Claim, Claims, this_process

_DISK_FULL = ("No space left on device", "Disk quota exceeded")


class Store:
    """A study folder. Every method leaves it consistent, even if the process is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.claims = folder, folder / "claims"
        self.runs, self.checkpoints = folder / "runs", folder / "checkpoints"
        self.results, self.splits = folder / "results.parquet", folder / "splits.json"
        self.plan_file, self._phase_file = folder / "plan.json", self.claims / "phase.txt"

    def create(self) -> None:
        try:
            for part in ("runs", "claims", "failed", "unfinished"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / ".writable"):
                pass
            (self.folder / ".writable").unlink(missing_ok=True)
        except OSError as error:
            raise unwritable_error(self.folder, error) from error

    def finished_ids(self) -> set[str]:
        return set(_visible_names(self.runs))

    def failed_ids(self) -> set[str]:
        names = _visible_names(self.folder / "failed")
        return {name.removesuffix(".txt") for name in names if name.endswith(".txt")}

    def result_folders(self) -> dict[str, Path]:
        failed = map(self.failed_folder, _visible_names(self.folder / "failed"))
        partial = {one.name: one for one in failed if (one / "rows.parquet").exists()}
        return partial | {name: self.runs / name for name in _visible_names(self.runs)}

    def unsettled(self, runs: Iterable[RunPlan]) -> list[RunPlan]:
        settled = self.finished_ids() | self.failed_ids()
        return [run for run in runs if run.id not in settled and not run.external]

    def external_runs(self) -> list[FinishedRun]:
        names = sorted(name for name in self.finished_ids() if name.startswith(EXTERNAL))
        return [read_run(self.runs / name / "run.json") for name in names]

    def is_settled(self, run: str) -> bool:
        return (self.runs / run).exists() or self.failure_file(run).exists()

    def failure_file(self, run: str) -> Path:
        return self.folder / "failed" / f"{run}.txt"

    def failed_folder(self, run: str) -> Path:
        return self.folder / "failed" / run

    def create_unfinished(self, run: str, claim: Claim) -> Path:
        folder = self.folder / "unfinished" / f"{run}-{claim.token}"
        folder.mkdir(parents=True)
        return folder

    def publish(
        self, run: RunPlan, folder: Path, seconds: float, hardware: Mapping[str, str] | None = None
    ) -> None:
        """Rename a run's folder of files to `runs/<id>`. An existing `runs/<id>` is kept."""
        machine = {"host": this_process()["host"], "versions": versions()}
        machine |= {"hardware": hardware or {}, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        record = FinishedRun(**run.model_dump() | {"seconds": round(seconds, 3)} | machine)
        write_text(folder / "run.json", record.model_dump_json(indent=1))
        self.adopt(run.id, folder)

    def adopt(self, run: str, folder: Path) -> None:
        """Rename a folder with all files of a finished run, `run.json` included, to `runs/<id>`."""
        try:
            folder.rename(self.runs / run)
        except OSError:
            if not (self.runs / run).exists():
                raise
            shutil.rmtree(folder, ignore_errors=True)
        self.clear_failure(run)
        shutil.rmtree(self.checkpoints / run, ignore_errors=True)

    def write_phase(self, text: str) -> None:
        if text:
            write_text(self._phase_file, text)
        else:
            self._phase_file.unlink(missing_ok=True)

    def read_phase(self) -> str:
        """What a process that prepares the study is doing; "" if there is none."""
        claims = Claims(self.claims)
        _, claim = claims.current().get("prepare", (0, None))
        if claim is None or claims.is_dead(claim):
            return ""
        with contextlib.suppress(OSError):
            return self._phase_file.read_text(encoding="utf-8")
        return "starting"

    def record_failure(self, run: str, text: str) -> None:
        write_text(self.failure_file(run), text)

    def clear_failure(self, run: str) -> None:
        self.failure_file(run).unlink(missing_ok=True)
        shutil.rmtree(self.failed_folder(run), ignore_errors=True)

    def clear_failures(self) -> None:
        """Let all failed runs be repeated; what they left stays until they finish."""
        for run in self.failed_ids():
            self.failure_file(run).unlink(missing_ok=True)

    def write_plan(self, plan: StudyPlan) -> None:
        plans.write_plan(plan, self.plan_file)

    def read_plan(self) -> StudyPlan:
        return plans.read_plan(self.plan_file)

    def is_used(self) -> bool:
        claims = Claims(self.claims)
        return not all(claims.is_dead(path) for _, path in claims.current().values())

    def refuse_while_used(self) -> None:
        if self.is_used():
            problem = "another process is working in it. Stop it, or choose another --out folder."
            raise error_at(self.folder, problem)

    def clean_up(self) -> None:
        """Remove what dead processes left. Call it when every run is settled."""
        if not self.is_used():
            for folder in (self.claims, self.folder / "unfinished", self.checkpoints):
                shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def versions() -> Mapping[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    installed = {}
    for name in ("oodml", "torch", "timm", "numpy", "scipy"):
        with contextlib.suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full. Some libraries set only the message."""
    return any(reason in str(error) for reason in _DISK_FULL)


def failure_text(run: RunPlan, error: BaseException, advice: str = "") -> str:
    return f"{run.description}\n{''.join(traceback.format_exception(error))}{advice}"


def unwritable_error(folder: Path, error: BaseException) -> OodmlError:
    if is_disk_full(error):
        hint = "Free some space (see `oodml data cache`) and run the study again"
        return error_at(folder, f"the disk is full. {hint}; finished runs are not repeated.")
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    hint = "Choose another folder with --out, or make it writable"
    return error_at(folder, f"not writable ({reason}). {hint}; finished runs are not repeated.")


def _visible_names(folder: Path) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return [name for name in names if not name.startswith(".")]
