"""The study folder: whole runs, one table, clear errors for damaged files."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from oodml.errors import OodmlError
from oodml.results.plan import RunPlan
from oodml.results.schema import COLUMNS, read_results
from oodml.study.folder.claims import Claims
from oodml.study.folder.store import Store
from oodml.study.folder.table import ResultsTable, read_run_rows
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from tests.study.toy import execute, make_study, toy_study

RUN = RunPlan(
    id="r", data="d", fingerprint="f", label="m", method="margin", split="0", shift=1, seed=0
)
ROW = {"stage": "after", "shots": 2, "episode": 0, "metric": "recall@1", "value": 1}


def test_a_changed_study_adds_runs_and_drops_those_it_no_longer_plans(tmp_path: Path) -> None:
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


def test_other_software_can_read_the_table(tmp_path: Path) -> None:
    run_study(toy_study(tmp_path, 1), tmp_path / "out", execute=execute, device="cpu")
    schema = pq.read_schema(tmp_path / "out" / "results.parquet")
    assert schema.names == list(COLUMNS)
    assert str(schema.field("shots").type) == "int64"
    assert str(schema.field("value").type) == "double"


def test_the_table_lists_its_baselines(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1, '[methods.raw]\nmethod = "frozen"\n'), tmp_path / "out"
    run_study(study, out, execute=execute, device="cpu")
    table = read_results(out / "results.parquet")
    assert set(table.loc[~table.trains, "method"]) == {"raw"}


@pytest.mark.parametrize("name", ["runs", "results"])
def test_a_truncated_file_is_named_and_can_be_written_again(name: str, tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run_study(study, out, execute=execute, device="cpu")
    whole = pd.read_parquet(out / "results.parquet")
    torn = out / "results.parquet"
    if name == "runs":
        torn = sorted((out / "runs").iterdir())[2] / "rows.parquet"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    with pytest.raises(OodmlError) as error:
        read_run_rows(torn.parent) if name == "runs" else read_results(torn)
    assert error.value.location == str(torn)
    if name == "runs":
        with pytest.raises(OodmlError) as error:
            run_study(study, out, execute=execute, device="cpu")
        assert error.value.location == str(torn)
        shutil.rmtree(torn.parent)
    run_study(study, out, execute=execute, device="cpu")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "results.parquet"), whole)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"runs": [')
    with pytest.raises(OodmlError) as error:
        Store(tmp_path).read_plan()
    assert error.value.location == str(tmp_path / "plan.json")


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="study run") as error:
        Store(tmp_path).read_plan()
    assert error.value.location == str(tmp_path / "plan.json")


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OodmlError, match="--out") as error:
        Store(tmp_path / "file" / "out").create()
    assert error.value.location == str(tmp_path / "file" / "out")


def test_an_existing_run_is_not_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    for value in (1.0, 2.0):
        claim = Claims(store.claims).take("r")
        assert claim is not None
        folder = store.create_unfinished("r", claim)
        pd.DataFrame([ROW | {"value": value}]).to_parquet(folder / "rows.parquet")
        store.publish(RUN, folder, 1.0)
        Claims(store.claims).release(claim)
    assert read_run_rows(tmp_path / "runs" / "r").value.tolist() == [1.0]
    assert not list((tmp_path / "unfinished").iterdir())


def test_the_table_is_written_again_when_a_run_finishes_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run_study(study, out, execute=execute, device="cpu")
    store = Store(out)
    everything = store.finished_ids()
    answers = [set(sorted(everything)[:2])]
    monkeypatch.setattr(
        Store, "finished_ids", lambda self: answers.pop() if answers else everything
    )
    assert ResultsTable(store).write() == 6
