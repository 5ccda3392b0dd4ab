"""What a study folder already contains is never mixed with results, and never silently erased."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.results.plan import read_plan
from oodml.results.schema import is_smoke, read_results
from oodml.shift.files import read_splits, write_splits
from oodml.study.folder.claims import Claims
from oodml.study.folder.status import Status, format_status, group_failures, read_status
from oodml.study.folder.store import Store
from oodml.study.launch import run_study
from oodml.study.plan import Run
from oodml.study.prepare import Context
from oodml.study.spec.study_file import Study, read_study
from tests.images.samples import squares, write_folder
from tests.study.toy import execute, make_study, toy_study

FOREIGN = {"run": "mine", "method": "my own method", "value": 0.9}


def run(study: Study, out: Path, **options: object) -> Status:
    return run_study(study, out, execute=execute, device="cpu", **options)


def add_foreign_row(path: Path) -> pd.DataFrame:
    """Append a row to a results table, as a user does with pandas."""
    table = pd.read_parquet(path)
    table = pd.concat([table, table.iloc[[0]].assign(**FOREIGN)], ignore_index=True)
    table.to_parquet(path, index=False)
    return table


@pytest.fixture
def smoke(tmp_path: Path) -> tuple[Study, Path]:
    """A study whose smoke test has finished in a folder."""
    study, out = toy_study(tmp_path), tmp_path / "out"
    run(study.model_copy(update={"shots": ()}), out, smoke=True)
    return study, out


def test_a_smoke_test_is_marked_in_plan_table_status_and_file(smoke: tuple[Study, Path]) -> None:
    _, out = smoke
    assert read_plan(out / "plan.json").smoke
    assert is_smoke(out / "results.parquet")
    assert "smoke test" in format_status(read_status(out))
    table = CliRunner().invoke(app, ["study", "table", str(out)])
    assert table.exit_code == 0
    assert "Smoke test" in table.output


def test_the_real_study_removes_the_results_of_its_smoke_test(
    smoke: tuple[Study, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = smoke

    def fail(*_: object, **__: object) -> None:
        assert not (out / "results.parquet").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("oodml.study.prepare._write_progression", fail)
        with pytest.raises(KeyboardInterrupt):
            run(study, out)
    assert not (out / "results.parquet").exists()
    status = run(study, out)
    assert len(status.done) == status.total == 18
    assert not status.smoke
    assert not is_smoke(out / "results.parquet")
    assert len(list((out / "runs").iterdir())) == 18


def test_foreign_rows_among_the_results_of_a_smoke_test_stay(smoke: tuple[Study, Path]) -> None:
    study, out = smoke
    add_foreign_row(out / "results.parquet")
    with pytest.raises(OodmlError, match="results.parquet"):
        run(study, out)
    assert "my own method" in set(pd.read_parquet(out / "results.parquet").method)
    assert len(run(study, out, replace=True).done) == 18


def test_a_study_without_results_can_be_replaced(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"

    def fail(*_: object) -> pd.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, execute=fail, device="cpu")
    assert len(run(another("name", tmp_path), out).done) == 6


def test_a_smoke_test_does_not_replace_a_study(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run(study, out)
    before = (out / "results.parquet").read_bytes()
    with pytest.raises(OodmlError, match="smoke"):
        run(study, out, smoke=True)
    assert (out / "results.parquet").read_bytes() == before


def another(kind: str, folder: Path) -> Study:
    """A study that differs from `toy_study(folder)` in one respect."""
    if kind == "name":
        shutil.copy(folder / "study.toml", folder / "other.toml")
        return read_study(folder / "other.toml")
    if kind == "data":
        (folder / "elsewhere").mkdir()
        make_study(folder / "elsewhere", 1)
        photo = next((folder / "elsewhere" / "photos" / "elm").iterdir())
        photo.with_name("9.png").write_bytes(photo.read_bytes())
        return read_study(folder / "elsewhere" / "study.toml")
    progression = read_splits(folder / "splits.json")
    write_splits(replace(progression, splits=progression.splits[:2]), folder / "splits.json")
    return read_study(folder / "study.toml")


@pytest.mark.parametrize("kind", ["name", "data", "splits"])
def test_another_study_is_refused_unless_it_replaces(kind: str, tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run(study, out)
    before = (out / "results.parquet").read_bytes()
    other = another(kind, tmp_path)
    with pytest.raises(OodmlError, match="--replace") as error:
        run(other, out)
    assert error.value.location == str(out)
    assert (out / "results.parquet").read_bytes() == before
    status = run(other, out, replace=True)
    assert len(status.done) == (4 if kind == "splits" else 6)
    assert read_plan(out / "plan.json").name == other.name


def test_a_moved_dataset_is_the_same_study(tmp_path: Path) -> None:
    make_study(tmp_path / "here", 1)
    run(read_study(tmp_path / "here" / "study.toml"), tmp_path / "out")
    shutil.move(tmp_path / "here", tmp_path / "there")
    status = run(read_study(tmp_path / "there" / "study.toml"), tmp_path / "out")
    assert len(list((tmp_path / "out" / "calls").iterdir())) == len(status.done) == 6


def test_an_edited_study_goes_on(tmp_path: Path) -> None:
    file = make_study(tmp_path, 1)
    run(read_study(file), tmp_path / "out")
    file.write_text(file.read_text().replace("seeds = [0]", "seeds = [0, 1]"))
    assert len(run(read_study(file), tmp_path / "out").done) == 12


@pytest.mark.parametrize("change", ["row", "column", "other table"])
def test_rows_of_other_origin_are_refused_and_stay(change: str, tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run(study, out)
    path = out / "results.parquet"
    own = read_results(path)
    if change == "row":
        add_foreign_row(path)
    elif change == "column":
        pd.read_parquet(path).assign(note="mine").to_parquet(path)
    else:
        pd.DataFrame({"a": [1.0]}).to_parquet(path)
    before = path.read_bytes()
    with pytest.raises(OodmlError, match="results.parquet") as error:
        run(study, out)
    assert error.value.location == str(path)
    assert path.read_bytes() == before
    run(study, out, replace=True)
    pd.testing.assert_frame_equal(read_results(path), own)


def test_rows_that_are_added_during_a_study_are_not_erased(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run(study, out)
    shutil.rmtree(sorted((out / "runs").iterdir())[0])

    def execute_and_add(run: Run, context: Context, folder: Path) -> pd.DataFrame:
        add_foreign_row(out / "results.parquet")
        return execute(run, context, folder)

    with pytest.raises(OodmlError, match="results.parquet"):
        run_study(study, out, execute=execute_and_add, device="cpu")
    assert "my own method" in set(pd.read_parquet(out / "results.parquet").method)
    assert len(list((out / "runs").iterdir())) == 6


def test_a_table_that_other_software_wrote_again_unchanged_is_accepted(tmp_path: Path) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    run(study, out)
    pd.read_parquet(out / "results.parquet").to_parquet(out / "results.parquet")
    assert len(run(study, out).done) == 6


def test_failures_are_grouped_by_reason(tmp_path: Path) -> None:
    def failing(run: Run, context: Context, folder: Path) -> pd.DataFrame:
        if run.method == "margin":
            raise RuntimeError(f"out of luck; see failed/{run.id}")
        raise ValueError("something else") if run.split.step == 2 else KeyError("third")

    study, out = toy_study(tmp_path, 2), tmp_path / "out"
    status = run_study(study, out, execute=failing, device="cpu")
    assert len(status.failed) == 12
    text = format_status(read_status(out))
    lines = [line for line in text.splitlines() if "seed" in line]
    assert len(lines) == 3
    assert lines[0].count("margin on split") == 6
    assert not any(run.id in text for run, _ in status.failed)


def test_a_network_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(squares(classes=8, each=4), tmp_path / "photos")
    (tmp_path / "study.toml").write_text(
        'data = "photos"\nsplits = {backbone = "pixels", n_splits = 1}\n'
        'model = {backbone = "pixels", image_size = 16, views = 1, dim = 8}\n'
        "train = {epochs = 1, batch_size = 8}\n"
        "[methods.margin]\n"
        '[methods.head]\nmethod = "margin"\nmodel = {backbone = "small"}\n'
        '[methods.whole]\nmethod = "margin"\nmodel = {backbone = "small", mode = "finetune"}\n'
    )
    study = read_study(tmp_path / "study.toml")

    def offline(name: str, weights: str | None = None, **_: Any) -> object:
        if name == "small":
            raise ConnectionError("cannot reach the hub")
        return load_backbone(name, weights)

    from oodml.backbones import load_backbone

    for module in ("oodml.embedding", "oodml.study.prepare", "oodml.study.run_inputs"):
        monkeypatch.setattr(f"{module}.load_backbone", offline, raising=False)
    status = run_study(study, tmp_path / "out", device="cpu")
    assert {run.label for run in status.done} == {"margin"}
    assert {run.label for run, _ in status.failed} == {"head", "whole"}
    assert all("cannot reach the hub" in reason for _, reason in status.failed)
    monkeypatch.undo()
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    status = run_study(study, tmp_path / "out", device="cpu", retry=True)
    assert not status.failed


def test_zero_shot_results_remain_when_the_few_shot_stage_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(squares(classes=8, each=6), tmp_path / "photos")
    (tmp_path / "study.toml").write_text(
        'data = "photos"\nshots = [2]\nepisodes = 1\nsplits = {backbone = "pixels", n_splits = 1}\n'
        'model = {backbone = "pixels", image_size = 16, views = 1, dim = 8}\n'
        "train = {epochs = 1, batch_size = 8}\nadapt = {iterations = 2, views = 1}\n"
        'methods = ["margin"]\n'
    )
    study, out = read_study(tmp_path / "study.toml"), tmp_path / "out"

    def fail(*_: object, **__: object) -> object:
        raise RuntimeError("two singletons")

    with monkeypatch.context() as patch:
        patch.setattr("oodml.study.run.adapt_split", fail)
        status = run_study(study, out, device="cpu")
    assert [reason for _, reason in status.failed] == ["RuntimeError: two singletons"]
    table = read_results(out / "results.parquet")
    assert set(table.stage) == {"zero_shot", "validation", "training"}
    status = run_study(study, out, device="cpu", retry=True)
    assert not status.failed
    again = read_results(out / "results.parquet")
    assert set(again.stage) == {"zero_shot", "validation", "training", "before", "after"}
    same = again[again.stage.isin(["zero_shot", "validation", "training"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, table, check_exact=True)
    assert not list((out / "failed").iterdir())


def test_status_answers_while_a_study_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = toy_study(tmp_path, 1), tmp_path / "out"
    texts: list[str] = []

    def note_status(*_: object, **__: object) -> None:
        texts.append(format_status(read_status(out)))

    with monkeypatch.context() as patch:
        patch.setattr("oodml.study.prepare.check_images", note_status)
        patch.setattr("oodml.study.prepare.check_split", note_status)
        run(study, out)
    assert len(texts) >= 2
    assert all("preparing" in text for text in texts)
    assert "splits of photos" in texts[1]
    assert "preparing" not in format_status(read_status(out))


def test_status_of_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="plan.json"):
        read_status(tmp_path)
    store = Store(tmp_path)
    store.create()
    assert Claims(store.claims).take("prepare")
    assert read_status(tmp_path).phase


def test_diverged_runs_are_one_group_whatever_the_step() -> None:
    text = "OodmlError: the loss term 'loss' is {} at step {}, in epoch 1 (classes a, b). Lower it."
    failures = [(f"run{i}", text.format("nan" if i else "inf", i), i) for i in range(4)]
    weight = (
        "OodmlError: head.weight is not finite after step {}, though every loss term was. Guard."
    )
    failures += [(f"run{i}", weight.format(i), i) for i in range(4, 6)]
    failures += [("run6", "ValueError: 6 at step 6", 6), ("run7", "ValueError: 7 at step 7", 7)]
    assert list(group_failures(failures).values()) == [[0, 1, 2, 3], [4, 5], [6], [7]]
