"""Claims: which process works on which run, in a folder that any number of processes share.

The claims on a run are numbered files; the highest number is the claim in force. Creating
a file that must not exist yet is the only step on which anything depends, so of several processes
exactly one gets a run. A process that takes over from a dead one writes the next number; a claim
is removed by its holder alone, so nothing that was judged dead comes back under the same name.
"""

import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEARTBEAT = 5.0
"""Seconds between two signs of life of a claim."""
PATIENCE = 90.0
"""Seconds without a sign of life after which a claim is free. NFS may show it a minute late."""


@dataclass(frozen=True)
class Claim:
    """A run that this process may work on."""

    name: str
    path: Path
    number: int
    token: str

    def lost(self) -> bool:
        """Whether another process has taken over, thinking this one dead."""
        return self.path.with_name(f"{self.name}.{self.number + 1}").exists()

    def beat(self) -> None:
        """Give a sign of life."""
        try:
            os.utime(self.path)
        except OSError:
            return  # lost or not reachable now; the next beat may succeed


@dataclass
class Claims:
    """The claims in a folder, as one process sees them.

    Whether another's claim is dead is seen without trusting any two clocks to agree: it is when
    its time stamp has not moved for `patience` seconds of this process's monotonic clock. On the
    same host the process is looked up instead.
    """

    folder: Path
    patience: float = PATIENCE
    _seen: dict[str, tuple[object, float]] = field(default_factory=dict)

    def take(self, name: str) -> Claim | None:
        """Claim a run, taking over from a dead process; None if another has it."""
        number, path = self.in_force().get(name, (0, None))
        if path is not None and not self.dead(path):
            return None
        return self._create(name, number + 1)

    def release(self, claim: Claim) -> None:
        """Give up a claim, when what it was for is done and written."""
        claim.path.unlink(missing_ok=True)

    def in_force(self) -> dict[str, tuple[int, Path]]:
        """The number and file of the claim in force on each run."""
        highest: dict[str, tuple[int, Path]] = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            name, _, number = path.name.rpartition(".")
            if name and number.isdigit() and int(number) > highest.get(name, (0, path))[0]:
                highest[name] = (int(number), path)
        return highest

    def holders(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The run and the holder of every claim, also of those that were taken over."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            name, _, number = path.name.rpartition(".")
            holder = read_claim(path) if name and number.isdigit() else None
            if holder is not None:
                yield name, holder

    def dead(self, path: Path) -> bool:
        """Whether the process behind a claim is gone, as far as can be told."""
        holder = read_claim(path)
        if holder is None:
            return False  # released just now
        if holder.get("place") == _place():
            return not _runs(holder)
        mark = (holder.get("token"), holder["modified"])
        if self._seen.get(path.name, (None, 0.0))[0] != mark:
            self._seen[path.name] = (mark, time.monotonic())
        return time.monotonic() - self._seen[path.name][1] > self.patience

    def _create(self, name: str, number: int) -> Claim | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.{number}"
        holder = me() | {"token": uuid.uuid4().hex[:12], "since": time.time()}
        if not _create_whole(path, json.dumps(holder)):
            return None
        return Claim(name, path, number, holder["token"])


def read_claim(path: Path) -> dict[str, Any] | None:
    """Who holds a claim, with its time stamp as `modified`; None if it is gone."""
    try:
        with path.open(encoding="utf-8") as stream:  # opening makes NFS look anew
            text, modified = stream.read(), os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return None
    try:
        holder: dict[str, Any] = json.loads(text)
    except ValueError:
        holder = {}  # cut short; it is judged by its time stamp alone
    return holder | {"modified": modified}


@contextmanager
def heartbeat(claim: Claim, every: float = HEARTBEAT) -> Iterator[None]:
    """Give signs of life while the block runs."""
    done = threading.Event()

    def beats() -> None:
        while not done.wait(every):
            claim.beat()

    thread = threading.Thread(target=beats, daemon=True, name=f"heartbeat {claim.name}")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def me() -> dict[str, Any]:
    """This process, so that others on the same host can look whether it still runs."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "place": _place(), "pid": pid, "started": _started(pid)}


def _place() -> str:
    """Where process numbers mean the same: host, boot, and process namespace."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        parts.append(f"{uuid.getnode():x}")
    return " ".join(parts)


def _runs(holder: dict[str, Any]) -> bool:
    """Whether a process of this host still runs, and is not a later one of the same number."""
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return holder.get("started") == _started(holder["pid"])


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks since boot; None if that cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _create_whole(path: Path, text: str) -> bool:
    """Create a file with its contents in one step; False if it exists."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.link(name, path)
    except FileExistsError:
        return False
    except PermissionError:  # a file system without hard links
        return _create_then_write(path, text)
    finally:
        os.unlink(name)
    return True


def _create_then_write(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return False
    return True
