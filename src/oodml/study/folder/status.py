"""The status of a study, read from its folder: finished, running, failed, and missing runs."""

import contextlib
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from oodml.errors import OodmlError
from oodml.progress import format_duration
from oodml.results.plan import RunPlan, StudyPlan, read_run
from oodml.study.folder.claims import PATIENCE, Claims, read_claim
from oodml.study.folder.store import Store

T = TypeVar("T")
_DIVERGED = re.compile(r" is ((nan|-?inf) at step|not finite after) .*$")
"""What differs between runs that diverge for the same reason: the step, classes, and weights."""
MAX_LISTED = 20
"""Number of runs of a kind that are listed one by one."""


@dataclass(frozen=True)
class Running:
    run: RunPlan
    host: str
    process: int
    silent: float

    def __str__(self) -> str:
        lost = self.silent > PATIENCE
        silent = f"; no heartbeat for {format_duration(self.silent)}" if lost else ""
        return f"{self.run.description}  on {self.host}, process {self.process}{silent}"


@dataclass(frozen=True)
class Status:
    """The status of a study; every planned run is in exactly one of the four lists.

    `remaining` are the expected seconds with the current workers, None while no run has finished;
    `pending` trials are sampled once the planned ones finish; `phase` is what is being prepared.
    """

    name: str
    done: list[RunPlan]
    running: list[Running]
    failed: list[tuple[RunPlan, str]]
    missing: list[RunPlan]
    remaining: float | None
    unit: str = "runs"
    pending: int = 0
    search: "Status | None" = None
    left_out: Sequence[str] = ()
    smoke: bool = False
    phase: str = ""

    @property
    def total(self) -> int:
        return len(self.planned) + self.pending

    @property
    def planned(self) -> list[RunPlan]:
        failed = [run for run, _ in self.failed]
        return [*self.done, *(one.run for one in self.running), *failed, *self.missing]


class StatusReader:
    """Reads the status of a folder repeatedly; reads every finished run only once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._plan, self._plan_modified = StudyPlan(), 0
        self._seconds: dict[str, float] = {}

    def status(self) -> Status:
        path = self.store.plan_file
        modified = path.stat().st_mtime_ns if path.exists() else -1
        if modified != self._plan_modified:
            self._plan, self._plan_modified = self.store.read_plan(), modified
        plan, phase = self._plan, self.store.read_phase()
        unique = {run.id: run for run in plan.runs}
        claimed = self._running(unique)
        finished, failures = self.store.finished_ids(), self.store.failed_ids()
        more: dict[str, Any] = {"left_out": plan.left_out, "smoke": plan.smoke, "phase": phase}
        status = Status(plan.name, [], [], [], [], None, plan.unit, plan.pending_trials, **more)
        for name, run in unique.items():
            if name in finished:
                status.done.append(run)
            elif name in failures:
                status.failed.append((run, failure_reason(self.store.failure_file(name))))
            elif name in claimed:
                status.running.append(claimed[name])
            else:
                status.missing.append(run)
        left = [*(one.run for one in status.running), *status.missing]
        seconds = self.expected(status.done, left, plan.pending_trials)
        remaining = None if seconds is None else seconds / max(1, len(status.running))
        return replace(status, remaining=remaining)

    def expected(
        self, done: Sequence[RunPlan], left: Sequence[RunPlan], pending: int = 0
    ) -> float | None:
        """The seconds that one worker needs for the runs left; None if no run has finished."""
        by_label: dict[str, list[float]] = {}
        for run in done:
            if run.id not in self._seconds:
                with contextlib.suppress(OodmlError):  # its record is unreadable
                    self._seconds[run.id] = read_run(self.store.runs / run.id / "run.json").seconds
            if run.id in self._seconds:
                by_label.setdefault(run.label, []).append(self._seconds[run.id])
        everything = [seconds for values in by_label.values() for seconds in values]
        if not left and not pending:
            return 0.0
        if not everything:
            return None
        samples = [by_label.get(run.label, everything) for run in left] + [everything] * pending
        return sum(sum(values) / len(values) for values in samples)

    def _running(self, planned: Mapping[str, RunPlan]) -> dict[str, Running]:
        claims, now = Claims(self.store.claims), time.time()
        stamp = partial(tempfile.NamedTemporaryFile, dir=claims.folder, prefix=".now-")
        with contextlib.suppress(OSError), stamp() as stream:
            now = Path(stream.name).stat().st_mtime  # by the clock that stamps the claims
        running = {}
        for name, (_, path) in claims.current().items():
            owner = read_claim(path)
            if name not in planned or owner is None or claims.is_dead(path):
                continue
            silent = max(0.0, now - owner["modified"] / 1e9)
            host, process = str(owner.get("host", "?")), int(owner.get("pid", 0))
            running[name] = Running(planned[name], host, process, silent)
        return running


def failure_reason(file: Path) -> str:
    """The line of a recorded failure that names the error, else its last line."""
    text = ""
    with contextlib.suppress(OSError):
        text = file.read_text("utf-8", "replace")
    lines = text.strip().splitlines() or ["unknown"]
    errors = [line for line in lines if line[:1].isalpha() and "Error" in line.split(":")[0]]
    return (errors or lines)[-1]


def read_status(folder: str | Path) -> Status:
    store = Store(Path(folder))
    trials = Store(store.folder / "search")
    search = StatusReader(trials).status() if trials.plan_file.exists() else None
    if not store.plan_file.exists() and (phase := store.read_phase()):
        return Status(store.folder.name, [], [], [], [], None, phase=phase)
    return replace(StatusReader(store).status(), search=search)


def group_failures(failures: Iterable[tuple[str, str, T]]) -> dict[str, list[T]]:
    """Group failures (run id, reason, value) by reason, the most frequent first, without run ids.

    Runs whose loss or weights are not finite are one group, whatever the step.
    """
    groups, reasons = dict[str, list[T]](), dict[str, str]()
    for name, text, value in failures:
        reason = text.replace(name, "RUN")
        reason = reasons.setdefault(_DIVERGED.sub("", reason), reason)
        groups.setdefault(reason, []).append(value)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def describe_failures(status: Status) -> list[str]:
    lines = []
    for reason, runs in group_failures((r.id, text, r) for r, text in status.failed).items():
        names = _first([run.description for run in runs], "")
        count = f"{len(runs)} {status.unit if len(runs) > 1 else status.unit.removesuffix('s')}"
        lines.append(f"{reason} ({count}: {'; '.join(names)})")
    return lines


def _first(entries: Sequence[str], more: str) -> list[str]:
    rest = len(entries) - MAX_LISTED
    return [*entries[:MAX_LISTED], *([f"{more}{rest} more"] if rest > 0 else [])]


def format_status(status: Status) -> str:
    lines = [format_status(status.search)] if status.search is not None else []
    smoke = " (smoke test, no results)" if status.smoke else ""
    lines.append(f"{status.name}{smoke}: {len(status.done)} of {status.total} {status.unit} done")
    lines += [f"preparing: {status.phase}"] if status.phase else []
    for title, entries in {
        "running": [str(one) for one in status.running],
        "missing": [run.description for run in status.missing],
        "corrupt images left out": status.left_out,
    }.items():
        if entries:
            lines.append(f"{title}: {len(entries)}")
            lines += [f"  {entry}" for entry in _first(entries, "and ")]
    if status.failed:
        lines.append(f"failed: {len(status.failed)}")
        lines += [f"  {line}" for line in describe_failures(status)]
    if status.pending:
        lines.append(f"pending: {status.pending} trials, sampled when these finish")
    lines += [note] if (note := describe_input_size(status.planned)) else []
    if status.running or status.missing:
        lines.append(f"expected time left: {format_duration(status.remaining)}")
    if status.failed:
        lines.append("tracebacks: failed/; repeat failed runs with `oodml study run … --retry`")
    return "\n".join(lines)


def describe_input_size(runs: Iterable[RunPlan]) -> str:
    """The size that runs read large images at; "" if all of them read the original files."""
    sizes = " or ".join(map(str, sorted({run.input_short for run in runs if run.input_short})))
    text = f"larger images were resized to a short side of {sizes} pixels (model.input_cache)"
    return text if sizes else ""
