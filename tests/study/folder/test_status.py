"""The status of a study, read from its folder."""

import json
import os
import time
from pathlib import Path

import pytest

from oodml.study.folder.claims import Claims
from oodml.study.folder.progress import format_progress, render_status
from oodml.study.folder.status import Status, format_status, read_status
from oodml.study.folder.store import Store
from oodml.study.launch import run_study
from oodml.study.prepare import prepare
from tests.study.toy import execute, execute_badly, toy_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of which 3 runs failed; of the others 1 is done, 1 runs here, 1 far away."""
    out = tmp_path / "out"
    run_study(toy_study(tmp_path, 1), out, execute=execute_badly, device="cpu")
    store = Store(out)
    store.create()
    done = sorted(store.finished_ids())
    for run in done[1:]:
        for path in (store.runs / run).iterdir():
            path.unlink()
        (store.runs / run).rmdir()
    record = store.runs / done[0] / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": 100.0}))
    assert Claims(store.claims).take(done[1])
    far = store.claims / f"{done[2]}.1"
    far.write_text(json.dumps({"host": "far", "namespace": "far", "pid": 7, "token": "x"}))
    long_ago = time.time() - 600
    os.utime(far, (long_ago, long_ago))
    return out


def test_every_run_is_in_one_list(folder: Path) -> None:
    status = read_status(folder)
    assert (len(status.done), len(status.running), len(status.failed)) == (1, 2, 3)
    assert status.missing == []
    assert status.total == 6
    assert ["no heartbeat" in str(one) for one in status.running if one.host == "far"] == [True]
    assert status.remaining == 100.0  # 2 runs of 100 s, 2 workers


def test_the_text_contains_every_list(folder: Path) -> None:
    text = format_status(read_status(folder))
    assert "1 of 6 runs done" in text
    assert "on far, process 7" in text
    assert "for 10 min" in text
    assert "the boundary is gone" in text
    assert "left: 1 min 40 s" in text
    assert "--retry" in text


def test_a_dead_process_runs_nothing(folder: Path) -> None:
    claim = next(p for p in (folder / "claims").glob("*.1") if "far" not in p.read_text())
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"started": "1"}))
    status = read_status(folder)
    assert (len(status.running), len(status.missing)) == (1, 1)


def test_without_a_finished_run_the_time_left_is_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    store.create()
    prepare(toy_study(tmp_path, 1), store)
    status = read_status(store.folder)
    assert (len(status.missing), status.remaining) == (6, None)
    assert "unknown" in format_progress(status)


def test_the_progress_line_contains_what_is_left(folder: Path) -> None:
    text = format_progress(read_status(folder))
    assert text.startswith("1 of 6 runs done, 3 failed, running multisimilarity on split ")
    assert text.endswith("left: 1 min 40 s")
    assert len(render_status(read_status(folder)).renderables) == 3


def test_a_finished_study_has_nothing_left(tmp_path: Path) -> None:
    status = run_study(toy_study(tmp_path, 1), tmp_path / "out", execute=execute, device="cpu")
    assert isinstance(status, Status)
    assert (status.remaining, status.missing, status.running) == (0.0, [], [])
    assert format_progress(status) == "6 of 6 runs done"
