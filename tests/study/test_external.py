"""Models trained elsewhere join a study: their rows equal those of a built-in method."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import oodml
from oodml.errors import OodmlError
from oodml.report.folder import read_folder
from oodml.report.page import page
from oodml.report.tables import tables
from oodml.results.schema import read_results
from oodml.shift.files import read_splits
from oodml.study.external import add_files
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from oodml.vectors import VectorSet
from tests.study.test_vector_data import clusters

STUDY = """\
data = "own.npz"
methods = ["margin", "frozen"]
shots = [2]
episodes = 2
splits = {n_splits = 3, validation = 0}
train = {epochs = 1, batch_size = 8}
adapt = {objective = "prototypes"}
"""
KEY = ["split", "stage", "shots", "episode", "metric"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("external")
    clusters().save(folder / "own.npz")
    (folder / "study.toml").write_text(STUDY)
    run_study(read_study(folder / "study.toml"), folder / "results")
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def rows(results: Path, method: str) -> pd.DataFrame:
    table = read_results(results / "results.parquet")
    own = table[table["method"] == method].set_index(KEY)["value"].sort_index()
    return own.drop(index="validation", level="stage", errors="ignore")


def vectors_of(results: Path, method: str) -> dict[str, VectorSet]:
    table = read_results(results / "results.parquet").drop_duplicates("run")
    own = table[table["method"] == method]
    pairs = zip(own["run"], own["split"], strict=True)
    return {split: VectorSet.load(results / "runs" / run / "vectors.npz") for run, split in pairs}


def test_the_vectors_of_a_built_in_method_give_its_rows(study: Path) -> None:
    """The frozen method is adapted on its vectors, too, so its few-shot rows agree as well."""
    results = study / "results"
    for split, vectors in vectors_of(results, "frozen").items():
        features = clusters().select(np.isin(clusters().ids, vectors.ids))
        shuffled = features.select(np.random.default_rng(0).permutation(len(features)))
        oodml.record(
            results, shuffled.vectors, shuffled.classes, shuffled.ids, method="own", split=split
        )
    own, frozen = (
        table[~table.index.get_level_values("metric").str.startswith("rho")]  # depends on lengths
        for table in (rows(results, "own"), rows(results, "frozen"))
    )
    assert set(own.index.get_level_values("stage")) == {"zero_shot", "before", "after"}
    pd.testing.assert_series_equal(own, frozen.reindex(own.index), rtol=1e-6)
    assert set(frozen.index) == set(own.index)


def test_files_join_and_remain_when_the_study_runs_again(study: Path) -> None:
    results = study / "results"
    for split, vectors in vectors_of(results, "margin").items():
        vectors.save(study / "mine" / f"{split}-0.npz")
    added = add_files(results, "mine", str(study / "mine" / "{split}-{seed}.npz"))
    assert len(added) == 3
    for split, vectors in vectors_of(results, "frozen").items():
        oodml.record(results, vectors, method="recorded", split=split)
    before = rows(results, "mine")
    expected = rows(results, "margin").loc[:, "zero_shot"]
    retrieval = expected[~expected.index.get_level_values("metric").str.contains("unknown|far|dir")]
    curve = before.loc[:, "zero_shot"].reindex(retrieval.index)
    pd.testing.assert_series_equal(curve.dropna(), retrieval[curve.notna()])
    text = (study / "study.toml").read_text().replace("seeds", "").replace("shots = [2]", "")
    (study / "study.toml").write_text("seeds = [0, 1]\nshots = [2]\n" + text)
    (results / "results.parquet").unlink()
    status = run_study(read_study(study / "study.toml"), results)
    assert not status.failed
    pd.testing.assert_series_equal(rows(results, "mine"), before)
    assert len(rows(results, "recorded"))
    folder = read_folder(results)
    computed = tables(folder)
    for name in ("curves", "ags", "ranks", "few_shot", "structure_points"):
        assert {"mine", "recorded", "margin"} <= set(computed[name]["method"])
    html = page(folder, computed)
    assert "mine" in html
    assert "recorded" in html


def test_one_file_of_all_images_is_a_baseline(study: Path) -> None:
    results = study / "results"
    add_files(results, "deployed", str(study / "own.npz"))
    table = read_results(results / "results.parquet")
    deployed = table[table["method"] == "deployed"]
    assert deployed["split"].nunique() == 3
    assert not deployed["trains"].any()


def test_a_new_folder_from_splits_and_data(study: Path, tmp_path: Path) -> None:
    splits = study / "results" / "splits.json"
    for split in read_splits(splits):
        vectors = clusters().subset(split.test)
        vectors.save(tmp_path / "mine" / f"{split.step}.npz")
    add_files(
        tmp_path / "new",
        "mine",
        str(tmp_path / "mine" / "{split}.npz"),
        data=str(study / "own.npz"),
        splits=splits,
    )
    assert rows(tmp_path / "new", "mine").index.get_level_values("split").nunique() == 3
    status = run_study(read_study(tmp_path / "new" / "study.toml"), tmp_path / "new")
    assert not status.failed
    assert len(rows(tmp_path / "new", "frozen"))
    assert len(rows(tmp_path / "new", "mine"))


def test_what_does_not_fit_the_split_is_refused(study: Path) -> None:
    results = study / "results"
    split = read_splits(results / "splits.json")[0]
    everything, test = clusters(), clusters().subset(split.test)
    renamed = VectorSet(test.vectors, test.classes, np.char.add(test.ids, "?"))
    cases = {
        str(renamed.ids[0]): renamed,
        sorted(split.train)[0]: everything,
        sorted(split.test)[0]: test.subset(sorted(split.test)[1:]),
        str(test.ids[0]): test.select(np.arange(1, len(test))),
        str(test.ids[1]): test.select(np.array([0, 1, 1, *range(2, len(test))])),
        str(test.ids[2]): VectorSet(
            test.vectors, np.where(test.ids == test.ids[2], "other", test.classes), test.ids
        ),
    }
    for name, vectors in cases.items():
        with pytest.raises(OodmlError) as caught:
            oodml.record(results, vectors, method="own", split=split.step)
        assert name in caught.value.given
    oodml.record(results, test, method="own", split=split.step)
    with pytest.raises(OodmlError) as caught:
        oodml.record(results, test, method="own", split=split.step, seed=1)
    assert caught.value.given == 1
    with pytest.raises(OodmlError) as caught:
        oodml.record(results, test, method="own", split=split.step)
    assert caught.value.location == "seed"
    oodml.record(results, test, method="own", split=split.step, replace_existing=True)
    for options, key in (({"method": "margin"}, "method"), ({"split": "far"}, "far")):
        with pytest.raises(OodmlError) as caught:
            oodml.record(results, test, **{"method": "own", "split": split.step, **options})
        assert key in (caught.value.location, caught.value.given)


def test_networks_and_external_models_share_a_page(tmp_path: Path) -> None:
    """Three networks, one model from files, and one from memory; nothing is lost by a new run."""
    study = oodml.Study(
        "glyphs",
        {
            "margin": {},
            "raw": {"method": "frozen", "backbone": "pixels"},
            "random": {"method": "frozen", "backbone": "small"},
            "imagenet": {"method": "frozen", "backbone": "lite0"},
        },
        name="glyphs",
        model={"backbone": "pixels", "views": 1, "image_size": 32},
        train={"epochs": 1, "batch_size": 8},
        splits={"n_splits": 2, "backbone": "pixels", "image_size": 32},
    )
    spec = study.spec
    assert spec is not None
    data = spec.data.model_copy(update={"options": {"scripts": ["greek"], "few": [8, 6]}})
    study.spec = spec.model_copy(update={"data": data})
    study.run(tmp_path / "results")
    for split, vectors in vectors_of(tmp_path / "results", "margin").items():
        vectors.save(tmp_path / "mine" / f"{split}-0.npz")
        oodml.record(tmp_path / "results", vectors, method="recorded", split=split)
    add_files(tmp_path / "results", "mine", str(tmp_path / "mine" / "{split}-{seed}.npz"))
    (tmp_path / "results" / "results.parquet").unlink()
    study.run(tmp_path / "results")
    computed = tables(read_folder(tmp_path / "results"))
    names = {"margin", "raw", "random", "imagenet", "mine", "recorded"}
    assert names <= set(computed["curves"]["method"])
    assert study.report().page.exists()


def test_a_path_with_wildcards_names_what_is_missing(finished: Path) -> None:
    for pattern, word in (("*.npz", "{seed}"), ("none/*.npz", "no file matches")):
        with pytest.raises(OodmlError) as caught:
            add_files(finished / "results", "mine", str(finished / pattern))
        assert word in str(caught.value)
        assert caught.value.location == "--vectors"
