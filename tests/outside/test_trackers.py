"""The real packages of trackers, offline: each receives a run's configuration and metrics."""

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from oodml.study.tracking import track_run
from tests.study.test_tracking import RUN, make

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file in an empty folder, with trackers offline."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    return make(tmp_path)


def tracked_study(file: Path, tracker: str, caplog: pytest.LogCaptureFixture) -> Path:
    """The folder that a tracker wrote for a study of one run; the tracker must not fail."""
    out = file.parent / "out"
    with caplog.at_level(logging.WARNING, "oodml"):
        status = run_study(read_study(file), out, device="cpu", trackers=[tracker])
    assert len(status.done) == 1
    assert "disabled" not in caplog.text
    return out / "tracking" / tracker


def test_wandb_offline(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed (oodml[track])")
    folder = tracked_study(study, "wandb", caplog)
    assert wandb.run is None  # the run is finished
    (file,) = folder.rglob("*.wandb")
    content = file.read_bytes()
    for text in (b"validation/recall@1", b"test/recall@1", b"train.batch_size"):
        assert text in content
    (run,) = (study.parent / "out" / "runs").iterdir()
    assert run.name in file.name


def test_trackio_offline(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed (oodml[track])")
    folder = tracked_study(study, "trackio", caplog)
    names, metrics, configuration = read_trackio(folder / "study.db")
    (run,) = (study.parent / "out" / "runs").iterdir()
    assert names == {f"margin 0 0 {run.name}"}
    assert "validation/recall@1" in metrics
    assert "train.batch_size" in configuration


def read_trackio(file: Path) -> tuple[set[str], str, str]:
    """Names of the runs in a trackio database, its metrics, and its configurations."""
    with sqlite3.connect(file) as database:
        rows = database.execute("select run_name, metrics from metrics").fetchall()
        configurations = database.execute("select config from configs").fetchall()
    database.close()
    text = "".join(bytes(metrics).decode() for _, metrics in rows)
    return {name for name, _ in rows}, text, "".join(bytes(c).decode() for (c,) in configurations)


def test_trackio_keeps_studies_and_resumed_runs_apart(study: Path) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed (oodml[track])")
    folder = study.parent
    for name in ("one", "two", "two"):
        with track_run(["trackio"], "study", RUN, folder / name) as log:
            log({f"metric_{name}": 0.5}, 1)
    for name in ("one", "two"):
        names, metrics, _ = read_trackio(folder / name / "trackio" / "study.db")
        assert names == {f"{RUN.label} -10 3 {RUN.id}"}
        assert f"metric_{name}" in metrics
    assert "metric_two" not in read_trackio(folder / "one" / "trackio" / "study.db")[1]


def test_trackers_start_in_a_fresh_process(tmp_path: Path) -> None:
    """Without anything else having initialized accelerate."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (oodml[track])")
    code = (
        "from pathlib import Path; from oodml.study.tracking import track_run\n"
        "from tests.study.test_tracking import RUN\n"
        f"with track_run(['tensorboard'], 'study', RUN, Path({str(tmp_path)!r})) as log:\n"
        "    log({'a': 1.0}, 1)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "disabled" not in ran.stderr
    assert list((tmp_path / "tensorboard").rglob("events*"))
