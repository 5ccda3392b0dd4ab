"""Ray: every run is a task, and only the driver reaches the study folder."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oodml.study.launch import run_study
from oodml.study.spec.study_file import Study, read_study
from oodml.study.workers.local import process_context
from oodml.study.workers.ray_runs import _chunks, _code_files, _read_files, _write_files

STUDY = """
data = {name = "glyphs", scripts = ["greek", "hebrew"], few = [8, 6]}
seeds = [0, 1]
shots = [2]
episodes = 2
methods = ["margin", "frozen"]
splits = {n_splits = 3, backbone = "pixels"}
model = {backbone = "pixels", views = 1}
train = {epochs = 2}
adapt = {iterations = 5}
"""


def small_study(folder: Path, text: str = STUDY) -> Study:
    (folder / "study.toml").write_text(text)
    return read_study(folder / "study.toml")


def drive(folder: Path) -> None:
    run_study(read_study(folder / "study.toml"), folder / "ray", device="cpu", executor="ray")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_two_nodes_give_the_rows_of_two_processes_though_a_node_dies_three_times(
    cluster: Any, tmp_path: Path
) -> None:
    """Each time a random node is killed at a random moment, and another one is added."""
    study = small_study(tmp_path, STUDY.replace("epochs = 2", "epochs = 400"))
    run_study(study, tmp_path / "local", device="cpu", workers=2)
    cluster, nodes = cluster
    random = np.random.default_rng(0)
    driver = process_context().Process(target=drive, args=(tmp_path,))
    driver.start()
    for n_finished in np.sort(random.choice(6, size=3, replace=False)):
        while len(list((tmp_path / "ray" / "runs").glob("*/run.json"))) < n_finished:
            time.sleep(0.05)
        time.sleep(random.uniform(0, 1))
        assert driver.is_alive()
        cluster.remove_node(nodes.pop(random.integers(2)), allow_graceful=False)
        nodes.append(cluster.add_node(num_cpus=1))
    driver.join()
    assert driver.exitcode == 0
    local, ray = (pd.read_parquet(tmp_path / name / "results.parquet") for name in ("local", "ray"))
    pd.testing.assert_frame_equal(local, ray, check_exact=True)
    assert len(list((tmp_path / "ray" / "runs").iterdir())) == 9
    assert not list((tmp_path / "ray").glob("claims/*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_images_and_user_code_travel(cluster: Any, tmp_path: Path) -> None:
    from tests.study.toy import make_study

    make_study(tmp_path, seeds=1)
    (tmp_path / "mine.py").write_text(
        "from oodml.methods.margin import Method\n\n\nclass Mine(Method):\n    pass\n"
    )
    text = (tmp_path / "study.toml").read_text().replace("[methods.multisimilarity]", "")
    text += '[methods.mine]\nmethod = "mine:Mine"\n[train]\nepochs = 1\n'
    study = small_study(tmp_path, text)
    run_study(study, tmp_path / "one", device="cpu")
    status = run_study(study, tmp_path / "ray", device="cpu", executor="ray")
    assert not status.failed
    one, ray = (pd.read_parquet(tmp_path / name / "results.parquet") for name in ("one", "ray"))
    pd.testing.assert_frame_equal(one, ray, check_exact=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("cluster")
def test_a_driver_killed_twice_and_started_again_gives_the_rows_of_one_process(
    tmp_path: Path,
) -> None:
    study = small_study(tmp_path)
    run_study(study, tmp_path / "one", device="cpu")
    runs = tmp_path / "ray" / "runs"
    finished: dict[str, int] = {}
    for limit in (1, 4):
        driver = process_context().Process(target=drive, args=(tmp_path,))
        driver.start()
        while driver.is_alive() and len(list(runs.glob("*/run.json"))) < limit:
            driver.join(0.02)
        driver.kill()
        driver.join()
        times = {path.parent.name: path.stat().st_mtime_ns for path in runs.glob("*/run.json")}
        assert limit <= len(times) < 9
        assert finished.items() <= times.items()
        finished = times
    status = run_study(study, tmp_path / "ray", device="cpu", executor="ray")
    assert (len(status.done), len(status.failed)) == (9, 0)
    times = {path.parent.name: path.stat().st_mtime_ns for path in runs.glob("*/run.json")}
    assert finished.items() <= times.items()
    one, ray = (pd.read_parquet(tmp_path / name / "results.parquet") for name in ("one", "ray"))
    pd.testing.assert_frame_equal(one, ray, check_exact=True)


def test_folders_travel_as_files(tmp_path: Path) -> None:
    (tmp_path / "package" / "deep").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    for name in ("a.py", "package/__init__.py", "package/deep/b.py", "plain/c.py", "d.txt"):
        (tmp_path / name).write_text(name)
    code = _code_files(tmp_path)
    assert set(code) == {"a.py", "package/__init__.py", "package/deep/b.py"}
    _write_files(code, tmp_path / "copy")
    assert _read_files(tmp_path / "copy") == code


def test_files_are_shipped_once_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodml.study.workers.ray_runs.CHUNK_BYTES", 10)
    for number in range(4):
        (tmp_path / str(number)).write_bytes(b"123456")
    files = [(f"images/{number}", tmp_path / str(number)) for number in (0, 0, 1, 2, 3)]
    chunks = list(_chunks(files))
    assert [len(chunk) for chunk in chunks] == [2, 2]
    assert sorted(name for chunk in chunks for name in chunk) == [f"images/{n}" for n in range(4)]
