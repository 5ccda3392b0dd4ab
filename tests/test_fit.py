"""`oodml fit`: a study's method on all classes, as a model folder with a card."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import oodml
from oodml.errors import OodmlError
from oodml.export import load_for_export
from oodml.fit import _describe_choice
from tests.images.samples import squares, write_folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> oodml.Study:
    folder = tmp_path_factory.mktemp("fit")
    write_folder(squares(side=16), folder / "photos")
    model = {"backbone": "pixels", "views": 1, "image_size": 16, "dim": 8}
    return oodml.Study(
        folder / "photos",
        ["margin", "frozen"],
        seeds=[0, 1],
        model=model,
        splits={"n_splits": 2, "backbone": "pixels", "image_size": 16},
        train={"epochs": 3, "batch_size": 8},
    ).run(folder / "results")


def test_the_folder_contains_the_model_and_a_card(study: oodml.Study, tmp_path: Path) -> None:
    model = oodml.fit_model(study.folder, tmp_path / "model")
    images = squares(side=16)
    expected = oodml.embed(images, model).vectors
    loaded = oodml.load_model(tmp_path / "model")
    np.testing.assert_array_equal(oodml.embed(images, loaded).vectors, expected)
    card = (tmp_path / "model" / "README.md").read_text()
    score = study.results.query("stage == 'zero_shot' and metric == 'recall@1'")
    ags = score[score["method"] == "margin"]["value"].mean()
    for word in ("margin", "license", "AGS", "pixels", "photos", f"{100 * ags:.1f}"):
        assert word in card
    epochs = study.results.query("stage == 'validation' and metric == 'epoch'")
    median = epochs[epochs["method"] == "margin"]["value"].median()
    assert f"{max(1, round(median))} epochs" in card
    _, metadata = load_for_export(tmp_path / "model")
    assert metadata["split"] == "all"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_fitted_is_refused(study: oodml.Study, tmp_path: Path) -> None:
    for method, out in (("arcface", "model"), ("margin", ".")):
        with pytest.raises(OodmlError) as caught:
            oodml.fit_model(study.folder, tmp_path / out, method)
        assert caught.value.given == method or caught.value.location == str(tmp_path / out)
    assert not any(tmp_path.iterdir())


def test_a_better_baseline_is_named(study: oodml.Study, tmp_path: Path) -> None:
    messages: list[str] = []
    oodml.fit_model(study.folder, tmp_path / "model", log=messages.append)
    assert "margin" in messages[0]
    assert messages[0] in (tmp_path / "model" / "README.md").read_text()
    columns = {"ags": [0.5, 0.75, 0.25], "trains": [True, False, False]}
    scores = pd.DataFrame(columns, index=["margin", "frozen", "other"])
    assert "frozen" in _describe_choice(scores, "margin", "recall@1")
    assert "75.0%" in _describe_choice(scores, "margin", "recall@1")
    assert "other" not in _describe_choice(scores, "margin", "recall@1")
    assert "margin" not in _describe_choice(scores, "frozen", "recall@1")


def test_a_baseline_is_saved_untrained(study: oodml.Study, tmp_path: Path) -> None:
    model = oodml.fit_model(study.folder, tmp_path / "model", "frozen")
    images = squares(side=16)
    vectors = oodml.embed(images, "pixels", image_size=16).vectors
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(oodml.embed(images, model).vectors, unit, rtol=1e-5)
