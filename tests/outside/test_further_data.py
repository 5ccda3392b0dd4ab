"""Studies that test their models on further datasets (`test_data`)."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import oodml
from oodml.analysis.table import shifts, zero_shot
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.model import load_model
from oodml.report.folder import read_folder
from oodml.report.page import page
from oodml.report.tables import select, tables
from oodml.results.schema import Stage, read_results
from oodml.shift.files import read_splits
from oodml.shift.measures import class_mean_shift
from oodml.study.launch import run_study
from oodml.study.preview import preview
from oodml.study.spec.smoke import smoke_study
from oodml.study.spec.study_file import read_study
from tests.docs.requirements import write_images

STUDY = """
data = "photos"
test_data = {data}
methods = ["frozen", "margin"]
splits = {{backbone = "pixels", n_splits = 2, harder = 2, easier = 0}}
model = {{backbone = "pixels", views = 1, dim = 8}}
train = {{epochs = 1, batch_size = 16}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run, and the images that it reads."""
    root = tmp_path_factory.mktemp("further")
    write_images(open_images("glyphs", few=(10, 6)), root / "photos")
    write_images(open_images("emoji", few=(6, 4)), root / "catalog")
    (root / "study.toml").write_text(
        STUDY.format(data='["catalog", {name = "emoji", few = [5, 3]}]')
    )
    run_study(read_study(root / "study.toml"), root / "out", device="cpu", threads=1)
    return root


def test_rows_name_the_dataset_and_its_own_shift(folder: Path) -> None:
    table = read_results(folder / "out" / "results.parquet")
    further = table[table.stage == Stage.TEST_DATA]
    assert set(further.data) == {"catalog", "emoji"}
    assert set(further.method) == {"frozen", "margin"}
    progression = read_splits(folder / "out" / "splits.json")
    own = embed(open_images(folder / "photos"), "pixels")
    new = embed(open_images(folder / "catalog"), "pixels").class_means()
    for split in progression:
        rows = further[(further.split == str(split.step)) & (further.data == "catalog")]
        expected = class_mean_shift(own.subset(split.train).class_means(), new)
        np.testing.assert_allclose(rows["shift"], expected)


def test_values_are_those_of_the_saved_model_on_the_dataset(folder: Path) -> None:
    table = read_results(folder / "out" / "results.parquet")
    images = open_images(folder / "catalog")
    chosen = table[(table.stage == Stage.TEST_DATA) & (table.data == "catalog")]
    for run, rows in chosen[chosen.method == "margin"].groupby("run"):
        model = load_model(folder / "out" / "runs" / str(run))
        vectors = embed(images, model)
        expected = oodml.retrieval_metrics(vectors.vectors, vectors.labels)
        values = rows.set_index("metric").value
        for name in ("recall@1", "map"):
            assert values[name] == pytest.approx(expected[name], abs=1e-9)


def test_curves_and_ranks_do_not_mix_datasets(folder: Path) -> None:
    table = read_results(folder / "out" / "results.parquet")
    alone = table[table.stage != Stage.TEST_DATA]
    first = table.sort_values("stage", ascending=True, key=lambda stage: stage != Stage.TEST_DATA)
    pd.testing.assert_series_equal(shifts(first), shifts(alone))
    pd.testing.assert_frame_equal(zero_shot(first, "recall@1"), zero_shot(alone, "recall@1"))
    read = read_folder(folder / "out")
    computed = tables(read)
    rows = select(computed, "test_data", "recall@1")
    assert len(rows) == 2 * 2 * 2
    assert len(select(computed, "curves", "recall@1")) == 2 * 2
    assert 'id="test-data"' in page(read, computed)


def test_runs_are_reused_and_previewed_until_the_dataset_changes(folder: Path) -> None:
    study = read_study(folder / "study.toml")
    assert "to do" not in preview(study, folder / "out").replace("0 of 4 runs to do", "")
    copy = folder / "copy"
    shutil.copytree(folder, copy)
    next((copy / "catalog").rglob("*.png")).unlink()
    text = STUDY.format(data='["catalog", {name = "emoji", few = [5, 3]}]')
    (copy / "study.toml").write_text(text)
    assert "4 of 4 runs to do" in preview(read_study(copy / "study.toml"), copy / "out")


@pytest.mark.slow
def test_a_smoke_test_tests_further_data(folder: Path, tmp_path: Path) -> None:
    study = smoke_study(read_study(folder / "study.toml"), tmp_path)
    run_study(study, tmp_path / "out", smoke=True, device="cpu", threads=1)
    table = read_results(tmp_path / "out" / "results.parquet")
    assert Stage.TEST_DATA in set(table.stage)


@pytest.mark.parametrize(
    ("data", "location"),
    [
        ('["photos"]', "test_data"),
        ('["catalog", "./catalog"]', "test_data"),
        ('["nothing"]', "test_data[0]"),
        ('{a = "nothing"}', "test_data.a"),
        ('[{name = "emoji", fwe = [2, 2]}]', "test_data[0]"),
        ('{a = "photos"}', "test_data"),
        ("3", "test_data"),
    ],
)
def test_unusable_further_data_are_refused(folder: Path, data: str, location: str) -> None:
    file = folder / "wrong.toml"
    file.write_text(STUDY.format(data=data))
    with pytest.raises(OodmlError) as raised:
        run_study(read_study(file), folder / "other", device="cpu", threads=1)
    assert location in str(raised.value.location)
    assert not (folder / "other" / "results.parquet").exists()
