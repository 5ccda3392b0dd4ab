"""Merging: one table of studies on the same splits; for other splits, what differs is reported."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.report.folder import read_folder
from oodml.report.tables import tables
from oodml.results.schema import read_results
from oodml.share.merge import merge_studies
from oodml.share.pack import pack_study
from oodml.shift.files import read_splits, write_splits
from tests.share.studies import planned_study

BOTH = {"margin": 0.7, "proxy_anchor": 0.71}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    planned_study(tmp_path / "first", {"margin": 0.7})
    return tmp_path / "first"


def test_two_studies_give_the_table_of_one(first: Path, tmp_path: Path) -> None:
    planned_study(tmp_path / "second", {"proxy_anchor": 0.71})
    pack_study(tmp_path / "second", tmp_path / "second.zip")
    merged = merge_studies([first, tmp_path / "second.zip"], tmp_path / "merged")
    planned_study(tmp_path / "whole", BOTH)
    whole = read_results(tmp_path / "whole" / "results.parquet")
    table = read_results(tmp_path / "merged" / "results.parquet")
    order = [name for name in whole.columns if name != "value"]
    pd.testing.assert_frame_equal(
        *(t.sort_values(order, ignore_index=True) for t in (table, whole)), check_dtype=False
    )
    assert (len(merged.rows), merged.equal, merged.contradictions) == (16, [], [])
    ranking = tables(read_folder(tmp_path / "merged"))["ags"]
    assert set(ranking["method"]) == set(BOTH)


def test_equal_runs_appear_once(first: Path, tmp_path: Path) -> None:
    planned_study(tmp_path / "both", BOTH)
    merged = merge_studies([first, tmp_path / "both"], tmp_path / "merged")
    assert len(merged.equal) == 8
    assert len(merged.rows) == 16
    assert (merged.contradictions, merged.renamed) == ([], [])


def test_contradictory_numbers_are_reported_and_the_first_is_used(
    first: Path, tmp_path: Path
) -> None:
    planned_study(tmp_path / "other", {"margin": 0.7})
    path = tmp_path / "other" / "results.parquet"
    table = pd.read_parquet(path)
    row = table.index[(table["run"] == "margin-0-1") & (table["metric"] == "map@r")][0]
    before = float(table.loc[row, "value"])
    table.loc[row, "value"] = before + 0.25
    table.to_parquet(path)
    merged = merge_studies([first, tmp_path / "other"], tmp_path / "merged")
    (outcome,) = merged.contradictions
    assert (outcome.run, outcome.metric) == ("margin-0-1", "map@r")
    assert (outcome.first, outcome.second) == (before, before + 0.25)
    result = read_results(tmp_path / "merged" / "results.parquet")
    rows = result[(result["run"] == "margin-0-1") & (result["metric"] == "map@r")]
    assert rows["value"].tolist() == [before]


def test_a_method_with_other_settings_gets_a_name_of_its_own(first: Path, tmp_path: Path) -> None:
    planned_study(tmp_path / "other", {"margin": 0.7}, train={"epochs": 40})
    for folder, ids in ((tmp_path / "other", ("results.parquet", "plan.json")),):
        table = pd.read_parquet(folder / ids[0])
        table.assign(run="x" + table["run"]).to_parquet(folder / ids[0])
        plan = json.loads((folder / ids[1]).read_text())
        plan["runs"] = [run | {"id": "x" + run["id"]} for run in plan["runs"]]
        (folder / ids[1]).write_text(json.dumps(plan))
    merged = merge_studies([first, tmp_path / "other"], tmp_path / "merged")
    assert merged.renamed == ["margin (other)"]
    assert len(merged.rows) == 16
    result = read_results(tmp_path / "merged" / "results.parquet")
    assert set(result["method"]) == {"margin", "margin (other)"}


@pytest.mark.parametrize("change", ["images", "step", "class", "shift"])
def test_other_splits_are_refused_with_what_differs(
    first: Path, tmp_path: Path, change: str
) -> None:
    other = tmp_path / "other"
    planned_study(other, {"proxy_anchor": 0.71})
    splits = read_splits(other / "splits.json")
    easy, *rest = splits
    if change == "images":
        plan = json.loads((other / "plan.json").read_text())
        (other / "plan.json").write_text(json.dumps(plan | {"fingerprint": "0123"}))
    elif change == "step":
        write_splits(replace(splits, splits=tuple(rest)), other / "splits.json")
    elif change == "class":
        less = replace(easy, test=easy.test[1:])
        write_splits(replace(splits, splits=(less, *rest)), other / "splits.json")
    else:
        moved = replace(easy, shift=easy.shift * 1.01)
        write_splits(replace(splits, splits=(moved, *rest)), other / "splits.json")
    with pytest.raises(OodmlError) as caught:
        merge_studies([first, other], tmp_path / "merged")
    expected = {"images": "0123", "step": "-4", "class": easy.test[0], "shift": "11.11"}
    (outcome,) = caught.value.given
    assert expected[change] in outcome
    assert not (tmp_path / "merged").exists()


def test_rounded_shifts_of_another_machine_are_one_shift(first: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    planned_study(other, {"proxy_anchor": 0.71})
    splits = read_splits(other / "splits.json")
    nudged = tuple(replace(one, shift=one.shift * (1 + 1e-7)) for one in splits)
    write_splits(replace(splits, splits=nudged), other / "splits.json")
    path = other / "results.parquet"
    table = pd.read_parquet(path)
    table.assign(shift=table["shift"] * (1 + 1e-7)).to_parquet(path)
    merge_studies([first, other], tmp_path / "merged")
    result = read_results(tmp_path / "merged" / "results.parquet")
    assert result.groupby("split")["shift"].nunique().eq(1).all()
