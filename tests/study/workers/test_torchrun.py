"""Two processes that `torchrun` starts train each run together and end together."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from torch import Tensor

from oodml.errors import OodmlError
from oodml.methods._base import Batch
from oodml.methods.multisimilarity import Method as MultiSimilarity
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from tests.images.samples import squares, write_folder

ROOT = Path(__file__).parents[3]
SOURCES = [folder for folder in [os.environ.get("PYTHONPATH")] if folder]
SETTINGS = """data = "photos"
splits = {backbone = "pixels", n_splits = 1}
model = {backbone = "small", mode = "finetune", dim = 16, image_size = 24}
train = {epochs = 2, batch_size = 9, per_class = 3, lr = 1e-3, refit = true}
adapt = {iterations = 3, views = 1}
"""
KEYS = ["run", "split", "method", "seed", "stage", "shots", "episode", "metric"]


def make(folder: Path, methods: str) -> Path:
    write_folder(squares(classes=10, each=7), folder / "photos")
    (folder / "study.toml").write_text(SETTINGS + methods)
    return folder / "study.toml"


def run_by_two(file: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", "-m", "oodml", "study", "run", str(file)]
    return subprocess.run(
        [*command, "--out", str(out), "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *SOURCES])},
    )


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(tmp_path: Path) -> None:
    more = "shots = [2]\nepisodes = 1\n"
    methods = 'methods = ["margin", "diva", "uniform_prior", "proxy_anchor", "s2sd", "r_margin"]\n'
    file = make(tmp_path, more + methods)
    run_study(read_study(file), tmp_path / "one", device="cpu")
    ended = run_by_two(file, tmp_path / "two")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("6 of 6 runs done") == 1
    one, two = (pd.read_parquet(tmp_path / n / "results.parquet") for n in ("one", "two"))
    both = one.merge(two, on=KEYS, how="outer", suffixes=("", "_two"), validate="one_to_one")
    assert len(both) == len(one)
    assert (both.value - both.value_two).abs().max() < 1e-4
    assert not (tmp_path / "two" / "claims").exists()


@pytest.mark.slow
def test_two_processes_with_chunks_and_retention_give_the_rows_of_one(tmp_path: Path) -> None:
    retain = "retain = {embedding = 1.0, relation = 1.0, weights = 0.1}, refit = true}"
    text = SETTINGS.replace("refit = true}", retain) + 'methods = ["multisimilarity"]\n'
    file = make(tmp_path, "")
    file.write_text(text)
    run_study(read_study(file), tmp_path / "one", device="cpu")
    file.write_text(text.replace("refit = true", "chunk_size = 2, refit = true"))
    ended = run_by_two(file, tmp_path / "two")
    assert ended.returncode == 0, ended.stderr
    keys = [key for key in KEYS if key != "run"]
    one, two = (pd.read_parquet(tmp_path / n / "results.parquet") for n in ("one", "two"))
    both = one.merge(two, on=keys, how="outer", suffixes=("", "_two"), validate="one_to_one")
    assert len(both) == len(one)
    assert (both.value - both.value_two).abs().max() < 1e-4


class Unequal(MultiSimilarity):
    """Fails in one process or in both."""

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step == 4 and os.environ["RANK"] in os.environ["WHO_FAILS"]:
            raise RuntimeError("the card fell off")
        return super().terms(batch)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["1", "01"])
def test_a_failure_of_one_process_ends_all_and_a_failure_of_all_fails_the_run(
    who: str, tmp_path: Path
) -> None:
    methods = f'[methods.unequal]\nmethod = "{__name__}:Unequal"\n[methods.margin]\n'
    file = make(tmp_path, methods)
    ended = run_by_two(file, tmp_path / "out", WHO_FAILS=who)
    assert ended.returncode != 0
    assert "the card fell off" in ended.stderr
    done = list((tmp_path / "out" / "runs").iterdir())
    failed = list((tmp_path / "out" / "failed").glob("*.txt"))
    if who == "1":
        assert "process 1 of 2" in ended.stderr
        assert (done, failed) == ([], [])
    else:
        assert (len(done), len(failed)) == (1, 1)
        assert "the card fell off" in failed[0].read_text()


def test_processes_that_train_together_do_one_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make(tmp_path, 'methods = ["frozen"]\n')
    monkeypatch.setattr("oodml.distributed.is_distributed", lambda: True)
    with pytest.raises(OodmlError, match="--workers"):
        run_study(read_study(file), tmp_path / "out", device="cpu", workers=2)
