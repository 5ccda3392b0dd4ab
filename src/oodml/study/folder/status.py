"""Where a study stands, read from its folder: done, running where, failed why, missing."""

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oodml.study.folder.claims import PATIENCE, Claims, read_claim
from oodml.study.folder.store import Store

LATER: Mapping[str, Any] = {"label": ""}
"""Stands for a trial whose options are not known yet."""
LISTED = 20
"""Runs of a kind that are named one by one."""


@dataclass(frozen=True)
class Running:
    """A run that a process works on. silent: seconds since its last sign of life."""

    run: Mapping[str, Any]
    host: str
    process: int
    silent: float

    @property
    def lost(self) -> bool:
        """Whether the process is probably gone."""
        return self.silent > PATIENCE


@dataclass(frozen=True)
class Status:
    """Where a study stands; every planned run is in exactly one of the four lists.

    failed: with the last line of the traceback. remaining: expected seconds until the end, with as
    many workers as now (at least one); None while nothing is finished. unit: what the runs are
    called. later: trials that a search will ask for when these are done. search: where the search
    stands that goes before the runs. left_out: ids of corrupt images that the study goes without.
    """

    name: str
    done: list[Mapping[str, Any]]
    running: list[Running]
    failed: list[tuple[Mapping[str, Any], str]]
    missing: list[Mapping[str, Any]]
    remaining: float | None
    unit: str = "runs"
    later: int = 0
    search: "Status | None" = None
    left_out: Sequence[str] = ()

    @property
    def total(self) -> int:
        asked = len(self.done) + len(self.running) + len(self.failed) + len(self.missing)
        return asked + self.later


class Watch:
    """Reads the status of a folder again and again; looks at every finished run once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._plan: dict[str, Any] = {}
        self._planned_at = 0
        self._seconds: dict[str, float] = {}

    def status(self) -> Status:
        """Where the study stands now."""
        plan = self._current_plan()
        unique = {run["id"]: run for run in plan["runs"]}
        claimed = self._running(unique)
        finished, failures = self.store.finished(), self.store.failed()
        done = [run for name, run in unique.items() if name in finished]
        open_runs = {name: run for name, run in unique.items() if name not in finished}
        failed = [(run, self._reason(name)) for name, run in open_runs.items() if name in failures]
        left = {name: run for name, run in open_runs.items() if name not in failures}
        running = [claim for name, claim in claimed.items() if name in left]
        missing = [run for name, run in left.items() if name not in claimed]
        later = int(plan.get("later", 0))
        remaining = self.expected(done, [*left.values(), *[LATER] * later])
        if remaining is not None:
            remaining /= max(1, len(running))
        unit = plan.get("unit", "runs")
        status = Status(plan["name"], done, running, failed, missing, remaining, unit, later)
        return replace(status, left_out=plan.get("left_out", ()))

    def _current_plan(self) -> dict[str, Any]:
        """The plan, read anew when its file has changed."""
        path = self.store.folder / "plan.json"
        stamp = path.stat().st_mtime_ns if path.exists() else -1
        if stamp != self._planned_at:
            self._plan, self._planned_at = self.store.read_plan(), stamp
        return self._plan

    def seconds(self, run: str) -> float | None:
        """How long a finished run took; None if its record cannot be read."""
        if run not in self._seconds:
            try:
                record = json.loads((self.store.runs / run / "run.json").read_text())
                self._seconds[run] = float(record["seconds"])
            except (OSError, ValueError, KeyError):
                return None
        return self._seconds[run]

    def _running(self, planned: Mapping[str, Mapping[str, Any]]) -> dict[str, Running]:
        claims = Claims(self.store.claims)
        now = _now(self.store.claims)
        running = {}
        for name, (_, path) in claims.in_force().items():
            holder = read_claim(path)
            if name not in planned or holder is None or claims.dead(path):
                continue
            silent = max(0.0, now - holder["modified"] / 1e9)
            host, process = str(holder.get("host", "?")), int(holder.get("pid", 0))
            running[name] = Running(planned[name], host, process, silent)
        return running

    def _reason(self, run: str) -> str:
        try:
            text = self.store.failure(run).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "unknown"
        lines = text.strip().splitlines() or ["unknown"]
        errors = [line for line in lines if line[:1].isalpha() and "Error" in line.split(":")[0]]
        return (errors or lines)[-1]

    def expected(
        self, done: Sequence[Mapping[str, Any]], left: Sequence[Mapping[str, Any]]
    ) -> float | None:
        """Seconds that one worker needs for the runs left, by what the finished ones took.

        A run counts as the mean of its method's, or of all; None while nothing is finished.
        """
        taken: dict[str, list[float]] = {}
        for run in done:
            seconds = self.seconds(run["id"])
            if seconds is not None:
                taken.setdefault(run["label"], []).append(seconds)
        every = [seconds for values in taken.values() for seconds in values]
        if not left:
            return 0.0
        if not every:
            return None
        expected = (taken.get(run["label"], every) for run in left)
        return sum(sum(values) / len(values) for values in expected)


def read_status(folder: str | Path) -> Status:
    """Where the study in a folder stands, and the search that it may have."""
    store = Store(Path(folder))
    trials = Store(store.folder / "search")
    searching = (trials.folder / "plan.json").exists()
    search = Watch(trials).status() if searching else None
    return replace(Watch(store).status(), search=search)


def told(status: Status) -> str:
    """The status in words, for the terminal."""
    lines = [told(status.search)] if status.search is not None else []
    lines.append(f"{status.name}: {len(status.done)} of {status.total} {status.unit} done")
    for title, entries in {
        "running": [
            f"{named(one.run)}  on {one.host}, process {one.process}"
            + (f"; no sign of life for {told_seconds(one.silent)}" if one.lost else "")
            for one in status.running
        ],
        "failed": [f"{named(run)}  {run['id']}: {reason}" for run, reason in status.failed],
        "missing": [named(run) for run in status.missing],
        "corrupt images left out": list(status.left_out),
    }.items():
        if entries:
            lines.append(f"{title}: {len(entries)}")
            lines += [f"  {entry}" for entry in entries[:LISTED]]
            lines += [f"  and {len(entries) - LISTED} more"] if len(entries) > LISTED else []
    if status.later:
        lines.append(f"to come: {status.later}, drawn from what these give")
    failed = [run for run, _ in status.failed]
    planned = [*status.done, *(one.run for one in status.running), *failed, *status.missing]
    lines += [note] if (note := input_note(planned)) else []
    if status.running or status.missing:
        lines.append(f"expected time left: {told_seconds(status.remaining)}")
    if status.failed:
        lines.append("tracebacks lie in failed/; `oodml study run … --retry` does them again")
    return "\n".join(lines)


def input_note(runs: Iterable[Mapping[str, Any]]) -> str:
    """At what size runs see large images, in words; "" if all read the files themselves."""
    shorts = sorted({int(run["input_short"]) for run in runs if run.get("input_short")})
    if not shorts:
        return ""
    sizes = " or ".join(map(str, shorts))
    return f"larger images were brought to a short side of {sizes} pixels (model.input_cache)"


def named(run: Mapping[str, Any]) -> str:
    """A run in words; a trial has a number."""
    trial = f", trial {run['trial']}" if "trial" in run else ""
    return f"{run['label']} on split {run['split']}, seed {run['seed']}{trial}"


def told_seconds(seconds: float | None) -> str:
    """A duration in words: "40 s", "12 min", "3 h 20 min"; "unknown" for None."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _now(folder: Path) -> float:
    """The time by the file system's clock, which also stamps the claims; its own if read-only."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".now-") as stream:
            return Path(stream.name).stat().st_mtime
    except OSError:
        return time.time()
