"""Verifying and repeating a study."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.results.schema import read_results, write_results
from oodml.share.pack import open_pack, pack_study
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from oodml.study.verification import find_problems, repeat_runs

STUDY = """
data = {name = "emoji", few = [12, 4]}
seeds = [0, 1]
splits = {procedure = "published", backbone = "pixels", image_size = 16, steps = [-2, 0]}
model = {backbone = "pixels", image_size = 16, views = 1, dim = 8}
train = {epochs = 1}
methods = ["margin"]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of a study of four short runs, with its folder beside it."""
    folder = tmp_path_factory.mktemp("verified")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OODML_CACHE", str(folder / "cache"))
        (folder / "study.toml").write_text(STUDY)
        run_study(read_study(folder / "study.toml"), folder / "results", device="cpu")
    pack_study(folder / "results", folder / "study.zip")
    return folder


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Path:
    open_pack(finished / "study.zip", tmp_path / "opened")
    return tmp_path / "opened"


def test_an_honest_study_has_no_problems_and_repeats_to_the_bit(finished: Path) -> None:
    words = ["study", "verify", str(finished / "study.zip"), "--runs", "2", "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    repeats = repeat_runs(finished / "results", 1, device="cpu")
    assert [(one.outcome, one.environment) for one in repeats] == [("equal", {})]


def change(folder: Path, row: int, value: float) -> str:
    table = read_results(folder / "results.parquet")
    mine = table.index[table["metric"] == "recall@1"][row]
    table.loc[mine, "value"] += value
    write_results(table, folder / "results.parquet")
    return str(table.loc[mine, "run"])


@pytest.mark.parametrize(("value", "outcome"), [(1e-7, "rounding"), (0.1, "different")])
def test_a_changed_number_is_found_by_repeating(opened: Path, value: float, outcome: str) -> None:
    run = change(opened, 0, -value)
    by_run = {one.run.id: one for one in repeat_runs(opened, 4, device="cpu")}
    assert by_run.pop(run).outcome == outcome
    assert {one.outcome for one in by_run.values()} == {"equal"}


def test_the_environment_that_differs_is_named(opened: Path) -> None:
    for file in opened.glob("runs/*/run.json"):
        values = json.loads(file.read_text())
        values["versions"]["torch"] = "1.0"
        file.write_text(json.dumps(values))
    (repeat,) = repeat_runs(opened, 1, device="cpu")
    assert repeat.environment is not None
    assert set(repeat.environment) == {"torch"}
    assert repeat.environment["torch"][0] == "1.0"


def test_implausible_numbers_are_listed(opened: Path) -> None:
    assert find_problems(opened) == []
    run = change(opened, 0, 2.0)
    assert any("recall@1" in one for one in find_problems(opened))
    table = read_results(opened / "results.parquet")
    other = next(name for name in table["run"].unique() if name != run)
    copied = table[table["run"] == run].set_index(["stage", "metric"])["value"]
    keys = pd.MultiIndex.from_frame(table[["stage", "metric"]])
    mine = table["run"] == other
    table.loc[mine, "value"] = copied.reindex(keys).to_numpy()[mine]
    write_results(table, opened / "results.parquet")
    assert any(run in one and other in one for one in find_problems(opened))


def test_settings_that_do_not_give_the_id_are_listed(opened: Path) -> None:
    plan = json.loads((opened / "plan.json").read_text())
    plan["runs"][0]["train"]["epochs"] = 99
    (opened / "plan.json").write_text(json.dumps(plan))
    (problem,) = find_problems(opened)
    assert plan["runs"][0]["id"] in problem


def test_a_split_that_trains_on_test_classes_is_refused(opened: Path) -> None:
    splits = json.loads((opened / "splits.json").read_text())
    splits["hash"] = ""
    splits["splits"][0]["train"].append(splits["splits"][0]["test"][0])
    (opened / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(OodmlError):
        find_problems(opened)


def test_user_code_of_others_is_not_imported(opened: Path) -> None:
    plan = json.loads((opened / "plan.json").read_text())
    for run in plan["runs"]:
        run["method"] = "evil.module:Method"
    (opened / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(OodmlError) as caught:
        repeat_runs(opened, 1)
    assert caught.value.location == "--trust-code"
