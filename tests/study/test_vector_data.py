"""A study on a file of vectors: everything that needs no pixels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import oodml
from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.results.schema import read_results
from oodml.shift.files import read_splits
from oodml.study.launch import run_study
from oodml.study.spec.study_file import parse_study, read_study
from oodml.vectors import VectorSet


def clusters(classes: int = 8, each: int = 6) -> VectorSet:
    random = np.random.default_rng(0)
    names = np.repeat([f"class {c}" for c in range(classes)], each)
    means = random.normal(size=(classes, 12)).repeat(each, axis=0)
    vectors = (means + random.normal(size=means.shape)).astype(np.float32)
    return VectorSet(vectors, names, np.array([f"{name}/{i}" for i, name in enumerate(names)]))


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "parquet", "npy"])
def test_every_format_opens_as_the_same_data(tmp_path: Path, suffix: str) -> None:
    vectors = clusters()
    vectors.save(tmp_path / f"own.{suffix}")
    images = open_images(tmp_path / f"own.{suffix}")
    embedded = oodml.embed(images, "vectors")
    order = np.argsort(vectors.ids)
    np.testing.assert_array_equal(embedded.vectors, vectors.vectors[order])
    assert embedded.classes.tolist() == vectors.classes[order].tolist()
    with pytest.raises(OodmlError):
        oodml.embed(images, "pixels")


def test_a_parquet_table_of_paths_is_not_vectors(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["a.png"], "class": ["a"]}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(OodmlError) as caught:
        open_images(tmp_path / "table.parquet")
    assert "table.parquet" in str(caught.value)


def test_a_study_measures_the_vectors_of_the_file(tmp_path: Path) -> None:
    vectors = clusters()
    vectors.save(tmp_path / "own.npz")
    (tmp_path / "study.toml").write_text(
        'data = "own.npz"\nmethods = ["margin", "frozen"]\nshots = [2]\nepisodes = 1\n'
        "splits = {n_splits = 2}\ntrain = {epochs = 1, batch_size = 8}\n"
        "adapt = {iterations = 2}\n"
    )
    status = run_study(read_study(tmp_path / "study.toml"), tmp_path / "results")
    assert not status.failed
    table = read_results(tmp_path / "results" / "results.parquet")
    assert set(table["stage"]) >= {"zero_shot", "before", "after"}
    for split in read_splits(tmp_path / "results" / "splits.json"):
        test = vectors.subset(split.test)
        expected = retrieval_metrics(test.vectors, test.labels)["recall@1"]
        row = table.query("method == 'frozen' and metric == 'recall@1' and stage == 'zero_shot'")
        value = row[row["split"] == str(split.step)]["value"].item()
        assert value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ({"model": {"mode": "finetune"}}, "model.mode"),
        ({"model": {"backbone": "resnet18"}}, "model.backbone"),
        ({"splits": {"backbone": "lite0"}}, "splits.backbone"),
        ({"adapt": {"layers": "all"}}, "adapt.layers"),
        ({"methods": {"margin": {"model": {"mode": "finetune"}}}}, "model.mode"),
    ],
)
def test_what_needs_pixels_is_refused(tmp_path: Path, tables: dict[str, object], key: str) -> None:
    clusters().save(tmp_path / "own.npz")
    study = {"data": "own.npz", "methods": ["margin"], **tables}
    with pytest.raises(OodmlError) as caught:
        parse_study(study, tmp_path / "study.toml")
    assert key in caught.value.location
