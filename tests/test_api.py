"""The Python interface: splits, training, and studies."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import oodml
from oodml.errors import OodmlError
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.results.schema import Stage
from tests.images.samples import squares, write_folder
from tests.study.test_vector_data import clusters

SMALL = {"backbone": "pixels", "views": 1, "image_size": 16}


def test_every_name_exists() -> None:
    for name in oodml.__all__:
        assert getattr(oodml, name) is not None
    with pytest.raises(AttributeError):
        _ = oodml.no_such_name


def test_a_study_from_keywords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clusters().save(tmp_path / "own.npz")
    options = {"splits": {"n_splits": 2}, "train": {"epochs": 1, "batch_size": 8}}
    study = oodml.Study("own.npz", ["margin", "frozen"], seeds=[0, 1], **options)
    with pytest.raises(OodmlError) as caught:
        study.table()
    assert caught.value.location == "folder"
    assert "own" in repr(study)
    study.run("results")
    table = study.table("map@r")
    assert set(table.index) == {"margin", "frozen"}
    assert "6 of 6" in repr(study)
    assert "<table" in study._repr_html_()
    reopened = oodml.open_study("results")
    assert reopened.table("map@r").equals(table)
    assert study.report().page.exists()
    with pytest.raises(OodmlError):
        oodml.Study("own.npz", ["margin"], sead=[0])
    with pytest.raises(OodmlError):
        oodml.open_study(tmp_path)


def test_a_study_of_data_with_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(squares(side=16), tmp_path / "photos")
    study = oodml.Study({"name": "photos", "few": [4, 2]}, ["frozen"], model=SMALL)
    assert study.spec is not None
    assert study.spec.name == "photos"
    assert study.spec.data.options == {"few": [4, 2]}
    assert tomllib.loads(study.spec.text)["data"]["name"] == str(tmp_path / "photos")
    rooted = oodml.Study({"name": "cub200", "root": tmp_path / "photos"}, ["frozen"])
    assert rooted.spec is not None
    assert rooted.spec.data.options == {"root": str(tmp_path / "photos")}
    with pytest.raises(OodmlError):
        oodml.Study({"few": [4, 2]}, ["frozen"])


def test_training_equals_the_run_of_a_study(tmp_path: Path) -> None:
    images = oodml.open_images(write_folder(squares(side=16), tmp_path / "photos"))
    vectors = oodml.embed(images, "pixels", image_size=16)
    splits = oodml.build_splits(vectors, n_splits=2, backbone="pixels", image_size=16)
    train = {"epochs": 2, "batch_size": 8}
    model = oodml.train(images, "margin", split=splits[0], seed=3, beta=0.7, **SMALL, **train)
    test = oodml.embed(images.subset(splits[0].test), model)
    study = oodml.Study(
        tmp_path / "photos",
        {"margin": {"beta": 0.7}},
        seeds=[3],
        model=SMALL,
        train=train,
        splits={"n_splits": 2, "backbone": "pixels", "image_size": 16},
    ).run(tmp_path / "results")
    rows = study.results.query("metric == 'map@r' and split == @splits[0].step.__str__()")
    value = rows[rows["stage"] == Stage.ZERO_SHOT]["value"].item()
    assert retrieval_metrics(test.vectors, test.labels)["map@r"] == pytest.approx(value, abs=1e-6)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(OodmlError) as caught:
        oodml.train(squares(), "margin", epocs=2, **SMALL)
    assert caught.value.given == "epocs"
    with pytest.raises(OodmlError):
        oodml.build_splits(clusters(), n_splitz=2)


def test_any_function_embeds_images() -> None:
    images = squares(side=16)

    def transform(image):  # type: ignore[no-untyped-def]
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255

    pixels = np.stack([np.asarray(images.read(row)) for row in range(len(images))])
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))
    vectors = oodml.embed(images, module, transform=transform, batch_size=7)
    expected = pixels.transpose(0, 3, 1, 2).reshape(48, -1) / 255
    np.testing.assert_allclose(vectors.vectors, expected, rtol=1e-6)
    assert module.training

    class Encoder:
        def encode(self, batch, show_progress_bar):  # type: ignore[no-untyped-def]
            return np.stack([np.asarray(one).mean((0, 1)) for one in batch])

    np.testing.assert_allclose(
        oodml.embed(images, Encoder()).vectors, pixels.mean((1, 2)), rtol=1e-6
    )
    with pytest.raises(OodmlError) as caught:
        oodml.embed(images, module)
    assert caught.value.location == "transform"


def test_representations_are_one_line() -> None:
    vectors = clusters()
    splits = oodml.build_splits(vectors, n_splits=2)
    for value in (squares(), vectors, splits, splits[0]):
        assert "\n" not in repr(value)
        assert len(repr(value)) < 100
    assert "48" in repr(squares())
