"""Claims: which process works on which run, in a folder that any number of processes share.

The claims on a run are numbered files; the one with the highest number is valid. Only creating a
file that must not exist yet has to be atomic. A process that takes over from a dead one writes the
next number. Only its owner removes a claim, so a dead claim never comes back under the same name.
"""

import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEARTBEAT = 5.0
"""Seconds between two heartbeats of a claim."""
PATIENCE = 90.0
"""Seconds without a heartbeat after which a claim is dead. NFS may show one a minute late."""


@dataclass(frozen=True)
class Claim:
    """The right of this process to work on a run."""

    name: str
    path: Path
    number: int
    token: str

    def is_lost(self) -> bool:
        return self.path.with_name(f"{self.name}.{self.number + 1}").exists()

    def renew(self) -> None:
        with suppress(OSError):  # lost or out of reach for now; the next heartbeat may succeed
            os.utime(self.path)


@dataclass
class Claims:
    """The claims in a folder, as observed by one process.

    A claim is dead when its time stamp has not changed for `patience` seconds of this process's own
    clock, so no two clocks have to agree. On the same host, the process is looked up.
    """

    folder: Path
    patience: float = PATIENCE
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[object, float]] = field(default_factory=dict)

    def take(self, name: str) -> Claim | None:
        """Claim a run, from a dead process if need be; None if another process has it."""
        number, path = self.current().get(name, (0, None))
        if path is not None and not self.is_dead(path):
            return None
        number += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.{number}"
        owner = this_process() | {"token": uuid.uuid4().hex[:12], "since": time.time()}
        created = _create_atomically(path, json.dumps(owner))
        return Claim(name, path, number, owner["token"]) if created else None

    def release(self, claim: Claim) -> None:
        claim.path.unlink(missing_ok=True)

    def current(self) -> dict[str, tuple[int, Path]]:
        """The number and the file of the valid claim on each run."""
        highest: dict[str, tuple[int, Path]] = {}
        for name, number, path in self._files():
            highest[name] = max(highest.get(name, (0, path)), (number, path))
        return highest

    def owners(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The run and the owner of every claim, including claims that were taken over."""
        for name, _, path in self._files():
            if (owner := read_claim(path)) is not None:
                yield name, owner

    def is_dead(self, path: Path) -> bool:
        """Whether the process behind a claim is gone, as far as this process can tell."""
        owner = read_claim(path)
        if owner is None:
            return False  # released just now
        if owner.get("namespace") == _process_namespace():
            try:
                os.kill(owner["pid"], 0)
            except PermissionError:
                return False
            except ProcessLookupError:
                return True
            return owner.get("started") != _start_time(owner["pid"])  # a later one of its number
        mark = (owner.get("token"), owner["modified"])
        if self._seen.get(path.name, (None, 0.0))[0] != mark:
            self._seen[path.name] = (mark, self.clock())
        return self.clock() - self._seen[path.name][1] > self.patience

    def _files(self) -> Iterator[tuple[str, int, Path]]:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            name, _, number = path.name.rpartition(".")
            if name and number.isdigit():
                yield name, int(number), path


def read_claim(path: Path) -> dict[str, Any] | None:
    """The owner of a claim, with the time stamp as "modified"; None if the claim is gone."""
    try:
        with path.open(encoding="utf-8") as stream:  # opening the file makes NFS refresh it
            text, modified = stream.read(), os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return None
    try:
        owner: dict[str, Any] = json.loads(text)
    except ValueError:
        owner = {}  # truncated; only its time stamp counts
    return owner | {"modified": modified}


def heartbeat(claim: Claim, every: float = HEARTBEAT) -> AbstractContextManager[None]:

    def renew(done: threading.Event) -> None:
        while not done.wait(every):
            claim.renew()

    return in_background(f"heartbeat {claim.name}", renew)


@contextmanager
def in_background(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do work in a thread while the block runs; the event is set when the block ends."""
    done = threading.Event()
    thread = threading.Thread(target=work, args=(done,), daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def this_process() -> dict[str, Any]:
    """What identifies this process, so that others on the same host can check that it runs."""
    process = {"namespace": _process_namespace(), "pid": os.getpid()}
    return {"host": socket.gethostname(), **process, "started": _start_time(os.getpid())}


def _process_namespace() -> str:
    """Host, boot, and process namespace: where a process number means the same process."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        parts.append(f"{uuid.getnode():x}")
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """The start time of a process in kernel ticks since boot; None if it is unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _create_atomically(path: Path, text: str) -> bool:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            os.link(name, path)
        except PermissionError:  # a file system without hard links
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
    except FileExistsError:
        return False
    finally:
        os.unlink(name)
    return True
