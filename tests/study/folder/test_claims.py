"""Claims: one process per run, whatever dies and whatever the clocks say."""

import json
import os
import time
from pathlib import Path
from threading import Event

import pytest

from oodml.study.folder.claims import Claim, Claims, heartbeat, read_claim, this_process
from oodml.study.workers.local import process_context

HOUR = 3600


class Clock:
    """A clock that only moves when a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def foreign(path: Path, number: int = 1, token: str = "other") -> Path:
    """A claim of a process on another host."""
    path.mkdir(exist_ok=True)
    claim = path / f"run.{number}"
    claim.write_text(json.dumps({"host": "far", "namespace": "far", "pid": 1, "token": token}))
    return claim


def test_a_run_is_claimed_once(tmp_path: Path) -> None:
    mine = Claims(tmp_path).take("run")
    assert mine is not None
    assert Claims(tmp_path).take("run") is None
    Claims(tmp_path).release(mine)
    assert Claims(tmp_path).take("run") is not None


def _take(folder: Path, ready: object, counts: object) -> None:
    claims = Claims(folder)
    ready.wait()  # type: ignore[attr-defined]
    counts.put([name for name in map(str, range(50)) if claims.take(name)])  # type: ignore[attr-defined]
    ready.wait()  # type: ignore[attr-defined]


def test_processes_never_share_a_run(tmp_path: Path) -> None:
    context = process_context()
    ready, counts = context.Barrier(3), context.Queue()
    three = [context.Process(target=_take, args=(tmp_path, ready, counts)) for _ in range(3)]
    for process in three:
        process.start()
    taken = [name for _ in three for name in counts.get()]
    for process in three:
        process.join()
    assert sorted(taken) == sorted(map(str, range(50)))


def _claim(folder: Path) -> None:
    Claims(folder).take("run")
    os._exit(9)


def test_a_dead_process_on_this_host_is_recognized_at_once(tmp_path: Path) -> None:
    process = process_context().Process(target=_claim, args=(tmp_path,))
    process.start()
    process.join()
    assert read_claim(tmp_path / "run.1") is not None
    mine = Claims(tmp_path).take("run")
    assert mine is not None
    assert mine.number == 2


def test_a_later_process_with_the_same_number_is_another(tmp_path: Path) -> None:
    owner = this_process() | {"token": "old", "started": "1"}
    (tmp_path / "run.1").write_text(json.dumps(owner))
    assert Claims(tmp_path).take("run") is not None


@pytest.mark.parametrize("offset", [-HOUR, HOUR])
def test_the_clock_of_another_host_does_not_matter(offset: float, tmp_path: Path) -> None:
    claim, clock = foreign(tmp_path), Clock()
    claims = Claims(tmp_path, patience=90, clock=clock)
    for beat in range(10):  # it is alive: its time stamp changes, an hour off
        stamp = time.time() + offset + beat
        os.utime(claim, (stamp, stamp))
        assert claims.take("run") is None
        clock.now += 60
    clock.now += 31  # it is dead: its time stamp does not change any more
    taken = claims.take("run")
    assert taken is not None
    assert taken.number == 2


def test_a_truncated_claim_is_taken_after_a_while(tmp_path: Path) -> None:
    foreign(tmp_path).write_text('{"host": "fa')
    clock = Clock()
    claims = Claims(tmp_path, patience=90, clock=clock)
    assert claims.take("run") is None
    clock.now = 91
    assert claims.take("run") is not None


def test_a_heartbeat_renews_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Claims(tmp_path).take("run")
    assert mine is not None
    os.utime(mine.path, (0, 0))
    renewed, renew = Event(), Claim.renew

    def renew_and_notify(claim: Claim) -> None:
        renew(claim)
        renewed.set()

    monkeypatch.setattr(Claim, "renew", renew_and_notify)
    with heartbeat(mine, every=0.01):
        assert renewed.wait(60)
    assert mine.path.stat().st_mtime > 0


def test_a_process_sees_that_its_claim_is_lost(tmp_path: Path) -> None:
    mine = Claims(tmp_path).take("run")
    assert mine is not None
    assert not mine.is_lost()
    foreign(tmp_path, number=2)
    assert mine.is_lost()
