"""Larger studies: disk space, other readers of the table, several processes started by hand."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from tests.images.samples import squares, write_folder
from tests.study.toy import execute, toy_study

KEPT = 50e6
"""Bytes that a folder of 1,000 runs may have without vectors and models."""


def weight(folder: Path) -> int:
    """Bytes of the files in a folder, each in blocks of 4096 as on a disk, and of its folders."""
    paths = [folder, *folder.rglob("*")]
    return sum(-(-max(1, path.stat().st_size) // 4096) * 4096 for path in paths)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished toy study of 24 runs."""
    folder = tmp_path_factory.mktemp("many")
    run_study(toy_study(folder, 4), folder / "out", execute=execute, device="cpu")
    return folder / "out"


def test_a_thousand_runs_weigh_little(out: Path) -> None:
    runs = sorted((out / "runs").iterdir())
    assert len(runs) == 24
    each = sum(map(weight, runs)) / len(runs) + (out / "plan.json").stat().st_size / len(runs)
    shared = (out / "results.parquet").stat().st_size / len(runs)
    assert 1000 * (each + shared) < KEPT


def test_polars_reads_the_table(out: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    table = polars.read_parquet(out / "results.parquet")
    shown = table.filter(metric="recall@1").group_by("method").agg(polars.col("value").mean())
    expected = pd.read_parquet(out / "results.parquet").query("metric == 'recall@1'")
    means = expected.groupby("method")["value"].mean()
    assert dict(shown.iter_rows()) == pytest.approx(means.to_dict())
    assert table["shots"].dtype == polars.Int64


def test_duckdb_reads_the_table(out: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    result = duckdb.sql(
        f"select method, avg(value) from '{out / 'results.parquet'}' "
        "where stage = 'zero_shot' and metric = 'recall@1' group by all"
    ).fetchall()
    expected = pd.read_parquet(out / "results.parquet").query("metric == 'recall@1'")
    means = expected.groupby("method")["value"].mean()
    assert dict(result) == pytest.approx(means.to_dict())


@pytest.mark.slow
def test_three_started_by_hand_on_one_folder_end_with_the_rows_of_one(tmp_path: Path) -> None:
    write_folder(squares(classes=12, each=6), tmp_path / "photos")
    file = tmp_path / "study.toml"
    file.write_text(
        'data = "photos"\nseeds = [0, 1, 2]\nsplits = {backbone = "pixels", n_splits = 2}\n'
        'model = {backbone = "pixels", views = 1, dim = 16, image_size = 24}\n'
        'train = {epochs = 2, batch_size = 8}\nmethods = ["margin", "multisimilarity"]\n'
    )
    run_study(read_study(file), tmp_path / "one", threads=1, device="cpu")
    command = [sys.executable, "-m", "oodml", "study", "run", str(file), "--out"]
    command += [str(tmp_path / "three"), "--device", "cpu", "--threads", "1"]
    hands = [subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(3)]
    assert [hand.wait(300) for hand in hands] == [0, 0, 0]
    assert len(list((tmp_path / "three" / "runs").iterdir())) == 12
    one, three = (pd.read_parquet(tmp_path / n / "results.parquet") for n in ("one", "three"))
    pd.testing.assert_frame_equal(one, three, check_exact=True)
