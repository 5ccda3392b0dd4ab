"""Claims: one process a run, whatever dies and whatever the clocks say."""

import json
import os
import time
from pathlib import Path

from oodml.study.folder.claims import Claims, heartbeat, me, read_claim
from oodml.study.workers.local import processes

HOUR = 3600


def foreign(path: Path, number: int = 1, token: str = "other") -> Path:
    """A claim of a process on another host."""
    path.mkdir(exist_ok=True)
    claim = path / f"run.{number}"
    claim.write_text(json.dumps({"host": "far", "place": "far", "pid": 1, "token": token}))
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
    context = processes()
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


def test_a_dead_process_on_this_host_is_known_at_once(tmp_path: Path) -> None:
    process = processes().Process(target=_claim, args=(tmp_path,))
    process.start()
    process.join()
    assert read_claim(tmp_path / "run.1") is not None
    mine = Claims(tmp_path).take("run")
    assert mine is not None
    assert mine.number == 2


def test_a_later_process_with_the_same_number_is_another(tmp_path: Path) -> None:
    holder = me() | {"token": "old", "started": "1"}
    (tmp_path / "run.1").write_text(json.dumps(holder))
    assert Claims(tmp_path).take("run") is not None


def test_clocks_do_not_matter(tmp_path: Path) -> None:
    for offset in (-HOUR, HOUR):
        folder = tmp_path / str(offset)
        claim = foreign(folder)
        claims = Claims(folder, patience=0.3)
        stamp = time.time() + offset
        until = time.monotonic() + 0.6
        while time.monotonic() < until:  # it lives: its stamp moves, an hour off
            stamp += 0.01
            os.utime(claim, (stamp, stamp))
            assert claims.take("run") is None
            time.sleep(0.05)
        time.sleep(0.35)  # it is dead: its stamp rests
        taken = claims.take("run")
        assert taken is not None
        assert taken.number == 2


def test_a_claim_that_was_cut_short_is_waited_for_and_taken(tmp_path: Path) -> None:
    foreign(tmp_path).write_text('{"host": "fa')
    claims = Claims(tmp_path, patience=0.1)
    assert claims.take("run") is None
    time.sleep(0.15)
    assert claims.take("run") is not None


def test_a_heartbeat_moves_the_stamp(tmp_path: Path) -> None:
    mine = Claims(tmp_path).take("run")
    assert mine is not None
    os.utime(mine.path, (0, 0))
    with heartbeat(mine, every=0.02):
        time.sleep(0.2)
    assert mine.path.stat().st_mtime > 0


def test_a_process_sees_that_it_was_given_up(tmp_path: Path) -> None:
    mine = Claims(tmp_path).take("run")
    assert mine is not None
    assert not mine.lost()
    foreign(tmp_path, number=2)
    assert mine.lost()
