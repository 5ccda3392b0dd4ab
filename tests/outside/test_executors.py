"""Executors, devices, and scripts that other people's machines do not have or write differently."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.results.schema import read_results
from oodml.study.launch import run_study
from oodml.study.workers.local import without_main_script
from tests.study.toy import execute, make_study, toy_study

STUDY = """
data = {name = "glyphs", few = [16, 4]}
methods = ["frozen"]
splits = {backbone = "pixels", n_splits = 1}
model = {backbone = "pixels", image_size = 16, views = 1}
"""
START = """
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
"""
PLAIN = START + 'run_study(read_study("study.toml"), "results", workers=2, device="cpu")\n'
OWN_FUNCTION = (
    START
    + "def execute(run, context, folder):\n    raise NotImplementedError\n"
    + 'run_study(read_study("study.toml"), "results", workers=2, device="cpu", execute=execute)\n'
)


def run_script(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "study.toml").write_text(STUDY)
    (folder / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=500
    )


@pytest.mark.slow
def test_a_script_without_a_main_guard_runs_with_workers(tmp_path: Path) -> None:
    ended = run_script(PLAIN, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert len(read_results(tmp_path / "results" / "results.parquet"))


@pytest.mark.slow
def test_a_script_whose_function_workers_must_import_is_told_about_the_guard(
    tmp_path: Path,
) -> None:
    ended = run_script(OWN_FUNCTION, tmp_path)
    assert ended.returncode != 0
    assert "__main__" in ended.stderr.strip().splitlines()[-1]


def test_workers_import_the_main_script_only_for_a_function_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)
    with without_main_script(execute):
        assert "__file__" not in vars(main)
    assert main.__file__ == "script.py"
    local = types.FunctionType((lambda: None).__code__, vars(main), "local")
    local.__qualname__, local.__module__ = "local", "__main__"
    monkeypatch.setattr(main, "local", local, raising=False)
    with without_main_script(local):
        assert main.__file__ == "script.py"


def test_slurm_without_srun_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (oodml[slurm])")
    monkeypatch.setenv("PATH", str(tmp_path))
    study = toy_study(tmp_path, 1)
    with pytest.raises(OodmlError, match="srun") as error:
        run_study(study, tmp_path / "out", execute=execute, device="cpu", executor="slurm")
    assert error.value.given == "slurm"
    assert not (tmp_path / "out").exists()


def test_a_dry_run_on_slurm_prints_the_job_script(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (oodml[slurm])")
    command = ["study", "run", str(make_study(tmp_path, 1)), "--out", str(tmp_path / "out")]
    command += ["--on", "slurm", "--dry-run", "--job", "slurm_partition=gpu"]
    result = CliRunner().invoke(app, [*command, "--job", "timeout_min=90"])
    assert result.exit_code == 0
    assert "#SBATCH --partition=gpu" in result.output
    assert "#SBATCH --time=90" in result.output
    assert not (tmp_path / "out").exists()
    wrong = CliRunner().invoke(app, [*command, "--job", "slurm_partitoin=gpu"])
    assert isinstance(wrong.exception, OodmlError)
    assert wrong.exception.location == "--job"


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x"])
def test_a_device_that_does_not_exist_is_refused(device: str, tmp_path: Path) -> None:
    study = toy_study(tmp_path, 1)
    with pytest.raises(OodmlError) as error:
        run_study(study, tmp_path / "out", execute=execute, device=device)
    assert error.value.given == device
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_on_a_machine_without(tmp_path: Path) -> None:
    study = toy_study(tmp_path, 1)
    for workers in (1, 2):
        with pytest.raises(OodmlError) as error:
            run_study(study, tmp_path / "out", execute=execute, device="cuda", workers=workers)
        assert error.value.given == "cuda"


def test_an_unwritable_cache_is_logged_and_the_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "file" / "cache"))
    status = run_study(toy_study(tmp_path, 1), tmp_path / "out", execute=execute, device="cpu")
    assert len(status.done) == 6
    assert "OODML_CACHE" in caplog.text
