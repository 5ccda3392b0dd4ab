"""Running a study: in one process, in several, killed at any time, with runs that fail."""

import errno
import os
import random
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.study.folder.claims import Claims
from oodml.study.folder.status import read_status
from oodml.study.folder.store import Store
from oodml.study.launch import run_study
from oodml.study.prepare import prepare
from oodml.study.spec.study_file import Study, read_study
from oodml.study.workers.local import WorkerPool, process_context
from tests.images.samples import squares, write_folder
from tests.study.toy import execute, execute_badly, execute_slowly, make_study, toy_study


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


def calls(folder: Path) -> list[str]:
    return [path.name for path in (folder / "calls").iterdir()]


def test_a_study_is_run_once_and_then_left_alone(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path), tmp_path / "out"
    first = run_study(study, out, execute=execute, device="cpu")
    assert (len(first.done), first.total) == (18, 18)
    assert len(table(out)) == 36
    written = (out / "results.parquet").read_bytes()
    run_study(study, out, execute=execute, device="cpu")
    assert len(calls(out)) == 18
    assert (out / "results.parquet").read_bytes() == written
    assert (out / "study.toml").read_text() == (tmp_path / "study.toml").read_text()
    for run in (out / "runs").iterdir():
        assert {p.name for p in run.iterdir()} == {"rows.parquet", "run.json", "history.csv"}
    assert not (out / "claims").exists()


def test_several_processes_give_the_same_table(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    run_study(study, tmp_path / "one", execute=execute, device="cpu")
    run_study(study, tmp_path / "two", execute=execute_slowly, device="cpu", workers=2)
    pd.testing.assert_frame_equal(table(tmp_path / "one"), table(tmp_path / "two"))
    assert len(calls(tmp_path / "two")) == 18


def test_real_runs_are_the_same_to_the_bit_whoever_does_them(tmp_path: Path) -> None:
    write_folder(squares(classes=12, each=6), tmp_path / "photos")
    (tmp_path / "study.toml").write_text(
        'data = "photos"\nshots = [2]\nepisodes = 1\nsplits = {backbone = "pixels", n_splits = 2}\n'
        'model = {backbone = "pixels", views = 1, dim = 16, image_size = 24}\n'
        "train = {epochs = 2, batch_size = 8}\nadapt = {iterations = 2, views = 1}\n"
        'methods = ["margin", "multisimilarity"]\n'
    )
    study = read_study(tmp_path / "study.toml")
    for workers in (1, 2):
        out = tmp_path / str(workers)
        status = run_study(study, out, workers=workers, threads=1, device="cpu")
        assert (len(status.done), status.failed) == (4, [])
    pd.testing.assert_frame_equal(table(tmp_path / "1"), table(tmp_path / "2"), check_exact=True)
    stages = {"zero_shot", "validation", "training", "before", "after"}
    assert set(table(tmp_path / "1").stage) == stages
    assert (tmp_path / "1" / "features.npz").exists()


def test_a_failing_run_leaves_its_traceback_and_the_study_goes_on(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    status = run_study(study, out, execute=execute_badly, device="cpu")
    assert (len(status.done), len(status.failed)) == (3, 3)
    run, reason = status.failed[0]
    assert reason == "RuntimeError: the boundary is gone"
    assert "execute_badly" in (out / "failed" / f"{run.id}.txt").read_text()
    assert not list((out / "unfinished").glob("*"))
    run_study(study, out, execute=execute, device="cpu")
    assert len(calls(out)) == 3  # a failed run is not tried again …
    status = run_study(study, out, execute=execute, device="cpu", retry=True)
    assert (len(status.done), len(status.failed)) == (6, 0)  # … unless asked for
    assert len(calls(out)) == 6
    assert not list((out / "failed").iterdir())


def test_too_little_memory_names_the_knobs(tmp_path: Path) -> None:
    def greedy(*_: object) -> pd.DataFrame:
        raise RuntimeError("CUDA out of memory. Tried to allocate 7 GiB")

    study = toy_study(tmp_path, 1)
    status = run_study(study, tmp_path / "out", execute=greedy, device="cpu")
    text = (tmp_path / "out" / "failed" / f"{status.failed[0][0].id}.txt").read_text()
    assert "train.batch_size" in text
    assert "model.image_size" in text


def test_a_full_disk_stops_the_study_with_a_clear_message(tmp_path: Path) -> None:
    done = []

    def filling(*arguments: object) -> pd.DataFrame:
        if len(done) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(1)
        return execute(*arguments)  # type: ignore[arg-type]

    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    with pytest.raises(OodmlError, match="disk is full"):
        run_study(study, out, execute=filling, device="cpu")
    assert not list((out / "failed").iterdir())
    assert not Claims(out / "claims").current()
    assert len(run_study(study, out, execute=execute, device="cpu").done) == 6


def test_an_interrupt_drops_what_runs_and_keeps_what_is_done(tmp_path: Path) -> None:
    done = []

    def interrupted(*arguments: object) -> pd.DataFrame:
        if len(done) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)  # the signal interrupts it
        done.append(1)
        return execute(*arguments)  # type: ignore[arg-type]

    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, execute=interrupted, device="cpu")
    assert table(out).run.nunique() == 4
    assert not Claims(out / "claims").current()
    assert not list((out / "unfinished").iterdir())
    assert not list((out / "failed").iterdir())


def kill_at_random(study: Study, out: Path, kills: int, seed: int) -> None:
    """Do a study with 3 workers that are killed at random; every fifth time all three at once."""
    draw = random.Random(seed)
    store = Store(out)
    store.create()
    prepare(study, store)
    patient = patch("oodml.study.workers.local.MAX_DEATHS", 1000)
    with patient, WorkerPool(out, 3, execute_slowly, "cpu", 1) as pool:
        waiting = threading.Thread(target=pool.wait)
        waiting.start()
        killed = 0
        while killed < kills and waiting.is_alive():
            time.sleep(draw.uniform(0, 0.2))
            victims = list(pool.workers) if killed % 5 == 4 else [draw.choice(pool.workers)]
            for process, _ in victims:
                process.kill()
            killed += 1
        assert killed == kills, "the study was through before all the killing; make it longer"
        waiting.join()


@pytest.mark.parametrize(
    ("kills", "seeds"),
    [(10, 10), pytest.param(50, 60, marks=pytest.mark.slow)],
)
def test_killed_workers_lose_nothing_and_repeat_nothing(
    kills: int, seeds: int, tmp_path: Path
) -> None:
    study = toy_study(tmp_path, seeds)
    run_study(study, tmp_path / "calm", execute=execute, device="cpu")
    kill_at_random(study, tmp_path / "wild", kills, seed=kills)
    status = run_study(study, tmp_path / "wild", execute=execute, device="cpu")
    assert (len(status.done), len(status.failed)) == (6 * seeds, 0)
    pd.testing.assert_frame_equal(table(tmp_path / "wild"), table(tmp_path / "calm"))
    every = calls(tmp_path / "wild")
    assert not [call for call in every if call.endswith("needless")]
    assert 6 * seeds <= len(every) <= 6 * seeds + kills * 3
    assert not (tmp_path / "wild" / "unfinished").exists()


def test_a_run_that_kills_its_workers_counts_as_failed(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    status = run_study(study, out, execute=deadly, device="cpu", workers=2)
    assert (len(status.done), len(status.failed)) == (5, 1)
    assert "3 times" in status.failed[0][1]


def test_a_death_counts_for_its_run_even_if_another_took_over_before(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path, 0, execute, "cpu", 1)
    dead = process_context().Process(target=hold, args=(pool.store.claims,))
    dead.start()
    dead.join()
    claim = Claims(pool.store.claims).take("run")
    assert claim is not None
    assert claim.number == 2
    assert pool._run_of(dead) == "run"


def hold(claims: Path) -> None:
    """End with a claim that nobody releases."""
    assert Claims(claims).take("run")


def deadly(run, context, folder):
    """One of the runs takes its process with it."""
    if run.method == "margin" and run.split.step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(run, context, folder)


def broken(run, context, folder):
    """The folder of results cannot be written to any more."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_error_in_a_worker_ends_the_study(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="disk is full"):
        run_study(toy_study(tmp_path), tmp_path / "out", execute=broken, device="cpu", workers=2)


def by_hand(file: Path, out: Path, workers: int) -> None:
    run_study(read_study(file), out, execute=execute_slowly, device="cpu", workers=workers)


def start(file: Path, out: Path, workers: int = 1) -> BaseProcess:
    """A process of its own that runs the study."""
    process = process_context().Process(target=by_hand, args=(file, out, workers))
    process.start()
    return process


def test_two_started_by_hand_share_the_work(tmp_path: Path) -> None:
    file, out = make_study(tmp_path), tmp_path / "out"
    both = [start(file, out) for _ in range(2)]
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(calls(out)) == 18
    assert table(out).run.nunique() == 18


def test_workers_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    file, out = make_study(tmp_path, seeds=20), tmp_path / "out"
    parent = start(file, out, workers=2)
    until = time.monotonic() + 60
    while time.monotonic() < until and len(read_running(out)) != 2:
        time.sleep(0.05)
    owners = [owner for _, owner in Claims(out / "claims").owners()]
    parent.kill()
    parent.join()
    while time.monotonic() < until and any(is_running(owner["pid"]) for owner in owners):
        time.sleep(0.05)
    assert not [owner for owner in owners if is_running(owner["pid"])]
    assert len(list((out / "runs").iterdir())) < 120
    assert read_running(out) == []


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def read_running(out: Path) -> list[object]:
    return list(read_status(out).running) if (out / "plan.json").exists() else []
