"""The study folder: what is planned, what is finished, what failed, and the table of results.

A run is finished when its folder `runs/<id>` exists: it is made elsewhere and renamed into place.
Nothing here needs torch or pandas.
"""

import functools
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from oodml.errors import OodmlError
from oodml.files import replacing, write_text
from oodml.study.folder.claims import Claim, Claims, me

FULL = "No space left on device"


@dataclass(frozen=True)
class Store:
    """A study folder. Every method leaves it consistent, wherever the process is killed."""

    folder: Path

    @property
    def claims(self) -> Path:
        return self.folder / "claims"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def results(self) -> Path:
        return self.folder / "results.parquet"

    def prepare(self) -> None:
        """Make the folder, or say why nothing can be written there."""
        try:
            for part in (
                self.runs,
                self.claims,
                self.folder / "failed",
                self.folder / "unfinished",
            ):
                part.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / ".writable"):
                pass
            (self.folder / ".writable").unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def finished(self) -> set[str]:
        """The ids of the finished runs."""
        return set(_listed(self.runs))

    def failed(self) -> set[str]:
        """The ids of the runs that failed."""
        names = _listed(self.folder / "failed")
        return {name.removesuffix(".txt") for name in names if name.endswith(".txt")}

    def is_settled(self, run: str) -> bool:
        """Whether a run needs no more work: it is finished, or it failed."""
        return (self.runs / run).exists() or self.failure(run).exists()

    def failure(self, run: str) -> Path:
        """Where the traceback of a failed run lies."""
        return self.folder / "failed" / f"{run}.txt"

    def failed_model(self, run: str) -> Path:
        """Where the last good weights of a failed run lie, if there are any."""
        return self.folder / "failed" / run

    def unfinished(self, run: str, claim: Claim) -> Path:
        """An empty folder for a run's files until it is finished."""
        folder = self.folder / "unfinished" / f"{run}-{claim.token}"
        folder.mkdir(parents=True)
        return folder

    def publish(self, settings: Mapping[str, Any], folder: Path, seconds: float) -> None:
        """Record a run: its folder of files becomes `runs/<id>`. If it exists, it stays."""
        run = str(settings["id"])
        made = dict(settings) | {"seconds": round(seconds, 3), "host": me()["host"]}
        made |= {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": versions()}
        write_text(folder / "run.json", json.dumps(made, indent=1))
        try:
            folder.rename(self.runs / run)
        except OSError:
            if not (self.runs / run).exists():
                raise
            shutil.rmtree(folder, ignore_errors=True)
        self.failure(run).unlink(missing_ok=True)
        for left in (self.failed_model(run), self.checkpoints / run):
            shutil.rmtree(left, ignore_errors=True)

    def fail(self, run: str, text: str) -> None:
        """Record why a run failed."""
        write_text(self.failure(run), text)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep what is planned, so that workers and `status` need no study file."""
        write_text(self.folder / "plan.json", json.dumps(plan, indent=1))

    def read_plan(self) -> dict[str, Any]:
        """What is planned: `runs`, each with its id and all settings, in the table's order."""
        path = self.folder / "plan.json"
        if not path.exists():
            raise OodmlError(f"{self.folder}: no study here (no plan.json). Start one: "
                             f"`oodml study run FILE --out {self.folder}`")  # fmt: skip
        try:
            return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise OodmlError(
                f"{path}: damaged ({error}). Delete it and run the study again."
            ) from error

    def tidy_up(self) -> None:
        """Remove what dead processes left behind; to be called when every run is settled."""
        living = Claims(self.claims)
        if all(living.dead(path) for _, path in living.in_force().values()):
            for folder in (self.claims, self.folder / "unfinished", self.checkpoints):
                shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def versions() -> dict[str, str]:
    """The versions of what computes the numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("oodml", "torch", "timm", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def is_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full; not every library keeps the number."""
    return FULL in str(error) or "Disk quota exceeded" in str(error)


def cannot_write(folder: Path, error: BaseException) -> OodmlError:
    """What to do about a folder that cannot be written to."""
    if is_full(error):
        return OodmlError(
            f"{folder}: the disk is full. Free some space (`oodml cache list` shows what the cache "
            "takes) and run the study again: finished runs are kept."
        )
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return OodmlError(f"{folder}: cannot be written to ({reason}). Give another folder with --out, "
                      "or make it writable; finished runs are kept.")  # fmt: skip


def _listed(folder: Path) -> list[str]:
    """What lies in a folder, without temporary files."""
    names = os.listdir(folder) if folder.is_dir() else []
    return [name for name in names if not name.startswith(".")]
