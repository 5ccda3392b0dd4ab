"""The whole path, as a user walks it: a TOML, two commands, a page."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import oodml
from oodml.cli import app
from oodml.datasets import open_images
from tests.images.samples import squares, write_folder

STUDY = """
data = {name = "glyphs", scripts = ["digits", "greek", "hebrew"], few = [40, 8]}
seeds = [0, 1]
shots = [2]
episodes = 2
splits = {backbone = "pixels", n_splits = 2}
model = {backbone = "pixels", image_size = 32, augmentation = "gentle", dim = 16, views = 1}
train = {epochs = 2}
adapt = {iterations = 3, views = 1}
methods = ["margin", "frozen"]
"""


def oodml_command(*words: object) -> str:
    ran = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study with its page."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OODML_CACHE", str(folder / "cache"))
        oodml_command("study", "run", folder / "study.toml", "--out", folder / "out")
        oodml_command("report", folder / "out")
    return folder / "out"


def test_the_table_holds_every_number(study: Path) -> None:
    table = pd.read_parquet(study / "results.parquet")
    columns = "run data split shift method seed stage shots episode metric value"
    assert " ".join(table.columns) == columns
    runs = table[["split", "method", "seed"]].drop_duplicates()
    assert len(runs) == 2 * (2 + 1)  # the baseline runs once per split
    stages = {"zero_shot", "validation", "training", "before", "after"}
    assert set(table["stage"]) == stages
    tested = table[table["stage"] == "zero_shot"]
    expected = {"recall@1", "recall@2", "recall@4", "recall@8", "map@r", "map@1000", "nmi"}
    assert expected <= set(tested["metric"])
    assert table.loc[table["metric"] == "recall@1", "value"].between(0, 1).all()
    few = table[table["stage"] == "after"]
    assert set(few["shots"]) == {2}
    assert set(few["episode"]) == {0, 1}
    assert len(few) == (table["stage"] == "before").sum()


def test_the_epoch_is_chosen_without_test_classes(study: Path) -> None:
    progression = oodml.read_splits(study / "splits.json")
    for split in progression:
        assert not set(split.train) & set(split.test)
        assert 0 < len(split.validation) < len(split.train)
        assert set(split.validation) <= set(split.train)
    shifts = [split.shift for split in progression]
    assert shifts == sorted(shifts)


def test_a_run_s_model_gives_its_vectors_and_metrics(study: Path) -> None:
    table = pd.read_parquet(study / "results.parquet")
    images = open_images("glyphs", scripts=["digits", "greek", "hebrew"], few=(40, 8))
    one = table[(table["method"] == "margin") & (table["metric"] == "recall@1")]
    one = one[one["stage"] == "zero_shot"].iloc[0]
    kept = oodml.VectorSet.load(study / "runs" / one["run"] / "vectors.npz")
    model = oodml.load_model(study / "runs" / one["run"])
    again = oodml.embed(images.subset(kept.class_names), model)
    order = np.argsort(again.ids)[np.argsort(np.argsort(kept.ids))]
    assert again.ids[order].tolist() == kept.ids.tolist()
    np.testing.assert_allclose(again.vectors[order], kept.vectors, atol=1e-5)
    metrics = oodml.retrieval_metrics(kept.vectors, kept.classes)
    assert metrics["recall@1"] == pytest.approx(one["value"], abs=1e-9)


def test_the_page_stands_alone(study: Path) -> None:
    page = (study / "report.html").read_text()
    assert "margin" in page
    assert 'src="http' not in page
    assert 'href="http' not in page.split("<main", 1)[0]
    assert list((study / "report").glob("*.png"))
    assert list((study / "report").glob("*.csv"))
    assert list((study / "report").glob("*.tex"))


def test_what_is_done_is_not_done_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.glob("runs/*/run.json")}
    table = (study / "results.parquet").read_bytes()
    monkeypatch.setenv("OODML_CACHE", str(study.parent / "cache"))
    oodml_command("study", "run", study.parent / "study.toml", "--out", study)
    assert {path: path.stat().st_mtime_ns for path in study.glob("runs/*/run.json")} == before
    assert (study / "results.parquet").read_bytes() == table


def test_the_other_commands_take_a_study_s_files(study: Path, tmp_path: Path) -> None:
    assert "6 of 6" in oodml_command("study", "status", study)
    assert "train" in oodml_command("splits", "show", study / "splits.json")
    vectors = next(iter(study.glob("runs/*/vectors.npz")))
    assert "recall@1" in oodml_command("evaluate", vectors).lower()
    out = tmp_path / "v.safetensors"
    oodml_command("embed", "--data", "glyphs", "--model", "pixels", "--image-size", 16,
                  "--out", out)  # fmt: skip
    assert len(oodml.VectorSet.load(out)) == len(open_images("glyphs"))


@pytest.mark.parametrize("superclasses", [False, True])
def test_a_folder_of_one_s_own(tmp_path: Path, superclasses: bool) -> None:
    write_folder(squares(classes=12), tmp_path / "photos", superclasses=superclasses)
    (tmp_path / "study.toml").write_text(
        'data = "photos"\n'
        "shots = [2]\n"
        'splits = {backbone = "pixels", n_splits = 2}\n'
        'model = {backbone = "pixels", image_size = 16, dim = 16, views = 1}\n'
        "train = {epochs = 1, batch_size = 8}\n"
        "adapt = {iterations = 2, views = 1}\n"
        'methods = ["multisimilarity"]\n'
    )
    oodml_command("study", "run", tmp_path / "study.toml", "--out", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert table["run"].nunique() == 2
    if superclasses:
        oodml_command("report", tmp_path / "out")
        assert (tmp_path / "out" / "report.html").stat().st_size < 15e6
