"""The study folder: whole runs, one table, clear words when something is damaged."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from oodml.errors import OodmlError
from oodml.study.folder.store import Store
from oodml.study.folder.table import COLUMNS, Table, empty_table, read_rows, tidy
from oodml.study.launch import run_study
from tests.study.toy import execute, make_study, toy_study

SETTINGS = {"id": "r", "data": "d", "split": "0", "shift": 1, "label": "m", "seed": 0}
ROW = {"stage": "after", "shots": 2, "episode": 0, "metric": "recall@1", "value": 1}


def test_rows_get_what_produced_them_and_the_right_types() -> None:
    rows = tidy(pd.DataFrame([ROW, ROW | {"shots": None, "episode": None}]), SETTINGS)
    assert list(rows.columns) == list(COLUMNS)
    assert {name: str(kind) for name, kind in rows.dtypes.items()} == COLUMNS
    assert rows.shots.tolist() == [2, pd.NA]
    assert rows.dtypes.equals(empty_table().dtypes)


def test_rows_without_a_column_are_refused() -> None:
    with pytest.raises(OodmlError, match=r"run r: its rows lack \['value'\]"):
        tidy(pd.DataFrame([ROW]).drop(columns="value"), SETTINGS)


def test_a_changed_study_adds_runs_and_drops_what_it_no_longer_wants(tmp_path: Path) -> None:
    from oodml.study.spec.study_file import read_study

    file, out = make_study(tmp_path, seeds=1), tmp_path / "out"
    run_study(read_study(file), out, execute=execute, device="cpu")
    before = pd.read_parquet(out / "results.parquet")
    text = file.read_text().replace("[methods.multisimilarity]", "[methods.arcface]")
    file.write_text(text.replace("[methods.margin]", '[methods.renamed]\nmethod = "margin"'))
    status = run_study(read_study(file), out, execute=execute, device="cpu")
    after = pd.read_parquet(out / "results.parquet")
    assert status.total == 6
    assert len(list((out / "runs").iterdir())) == 9
    assert set(after.method) == {"renamed", "arcface"}
    kept = after[after.method == "renamed"].drop(columns="method").reset_index(drop=True)
    same = before[before.method == "margin"].drop(columns="method").reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, same)
    assert len(list((out / "calls").iterdir())) == 9


def test_the_table_opens_elsewhere(tmp_path: Path) -> None:
    run_study(toy_study(tmp_path, 1), tmp_path / "out", execute=execute, device="cpu")
    schema = pq.read_schema(tmp_path / "out" / "results.parquet")
    assert schema.names == list(COLUMNS)
    assert str(schema.field("shots").type) == "int64"
    assert str(schema.field("value").type) == "double"


@pytest.mark.parametrize("name", ["runs", "results"])
def test_a_file_cut_in_half_is_named_and_can_be_made_anew(name: str, tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run_study(study, out, execute=execute, device="cpu")
    whole = pd.read_parquet(out / "results.parquet")
    torn = out / "results.parquet"
    if name == "runs":
        torn = sorted((out / "runs").iterdir())[2] / "rows.parquet"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    lost = torn.parent if name == "runs" else torn
    with pytest.raises(OodmlError, match=f"{torn}: damaged .* Delete {lost} and run"):
        read_rows(torn)
    if name == "runs":
        with pytest.raises(OodmlError, match=f"Delete {lost}"):
            run_study(study, out, execute=execute, device="cpu")
        shutil.rmtree(lost)
    run_study(study, out, execute=execute, device="cpu")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "results.parquet"), whole)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"runs": [')
    with pytest.raises(OodmlError, match=r"plan.json: damaged .* Delete it"):
        Store(tmp_path).read_plan()


def test_a_folder_without_a_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="no study here"):
        Store(tmp_path).read_plan()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OodmlError, match="cannot be written to .* --out"):
        Store(tmp_path / "file" / "out").prepare()


def test_a_run_that_exists_is_kept(tmp_path: Path) -> None:
    from oodml.study.folder.claims import Claims

    store = Store(tmp_path)
    store.prepare()
    for value in (1.0, 2.0):
        claim = Claims(store.claims).take("r")
        assert claim is not None
        folder = store.unfinished("r", claim)
        pd.DataFrame([ROW | {"value": value}]).to_parquet(folder / "rows.parquet")
        store.publish(SETTINGS, folder, 1.0)
        Claims(store.claims).release(claim)
    assert read_rows(tmp_path / "runs" / "r" / "rows.parquet").value.tolist() == [1.0]
    assert not list((tmp_path / "unfinished").iterdir())


def test_the_table_is_written_again_when_a_run_finishes_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run_study(study, out, execute=execute, device="cpu")
    store = Store(out)
    everything = store.finished()
    answers = [set(sorted(everything)[:2])]
    monkeypatch.setattr(Store, "finished", lambda self: answers.pop() if answers else everything)
    assert Table(store).write() == 6
