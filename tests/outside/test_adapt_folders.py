"""Folders for `oodml adapt`: overlapping, with missing classes, or with one new class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from oodml import OodmlError
from oodml.adaptation import AdaptSettings
from oodml.adaptation.gallery import add_to_gallery
from oodml.adaptation.images import adapt_model
from oodml.cli import app
from oodml.datasets import open_images
from oodml.model import Embedder, frozen_model

FAST = AdaptSettings(objective="prototypes", metrics=("recall@1",))


def picture(c: int, k: int) -> Image.Image:
    base = np.random.default_rng(c).integers(0, 255, (6, 6, 3)).astype(int)
    noise = np.random.default_rng([c, k]).integers(-90, 90, (6, 6, 3))
    return Image.fromarray((base + noise).clip(0, 255).astype(np.uint8)).resize((32, 32))


def write(root: Path, classes: range, numbers: range, suffix: str = "png") -> Path:
    for c in classes:
        (root / f"c{c}").mkdir(parents=True, exist_ok=True)
        for k in numbers:
            picture(c, k).save(root / f"c{c}" / f"{root.name}-{k}.{suffix}")
    return root


@pytest.fixture(scope="module")
def model() -> Embedder:
    return frozen_model("pixels", normalize=True)


def adapt(*words: object) -> Any:
    fast = ("--model", "pixels", "--objective", "prototypes", "--device", "cpu")
    return CliRunner().invoke(app, ["adapt", *fast, *map(str, words)])


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_support_images_among_the_queries_are_left_out(
    tmp_path: Path, model: Embedder, suffix: str
) -> None:
    """Copies are found by their pixels, whatever their names and lossless formats."""
    support = write(tmp_path / "support", range(5), range(2))
    clean = write(tmp_path / "clean", range(5), range(2, 7))
    leaked = write(tmp_path / "leaked", range(5), range(2, 7))
    write(leaked, range(4), range(2), suffix)
    results = [
        adapt_model(model, open_images(support), open_images(query), FAST)[1]
        for query in (clean, leaked)
    ]
    assert results[0].after == results[1].after
    assert results[0].notes == ()
    assert "8 query images" in results[1].notes[0]
    shown = adapt("--support", support, "--queries", leaked)
    assert shown.exit_code == 0
    assert "8 query images" in shown.stderr


def test_the_same_folder_twice_is_refused(tmp_path: Path) -> None:
    support = write(tmp_path / "support", range(4), range(3))
    result = adapt("--support", support, "--queries", support)
    assert isinstance(result.exception, OodmlError)
    assert result.exception.location == "query"


def test_equal_vectors_of_different_images_are_not_copies(tmp_path: Path) -> None:
    for name, colors in (("support", (0, 90)), ("query", (10, 120))):
        for c, color in enumerate(colors):
            (tmp_path / name / f"c{c}").mkdir(parents=True)
            for k in range(2):
                image = Image.new("RGB", (32, 32), (color + k,) * 3)
                image.save(tmp_path / name / f"c{c}" / f"{k}.png")
    support, query = (open_images(tmp_path / name) for name in ("support", "query"))
    _, result = adapt_model(frozen_model("pixels", normalize=True), support, query, FAST)
    assert result.notes == ()


def test_query_classes_without_support_are_named(tmp_path: Path) -> None:
    support = write(tmp_path / "support", range(3), range(2))
    query = write(tmp_path / "query", range(5), range(2, 5))
    result = adapt("--support", support, "--queries", query)
    assert result.exit_code == 0, result.output
    assert "c3" in result.stderr
    assert "c4" in result.stderr
    assert "accuracy" not in result.stdout


def test_one_support_class_needs_a_gallery(tmp_path: Path) -> None:
    support = write(tmp_path / "support", range(6, 7), range(5))
    query = write(tmp_path / "query", range(7), range(5, 8))
    for folders in ((support, query), (query, support)):
        result = adapt("--support", folders[0], "--queries", folders[1])
        assert isinstance(result.exception, OodmlError)
        assert "--gallery" in str(result.exception)


@pytest.mark.parametrize("objective", ["margin", "prototypes", "linear"])
def test_one_new_class_is_added_to_a_gallery(
    tmp_path: Path, model: Embedder, objective: str
) -> None:
    support = open_images(write(tmp_path / "support", range(6, 7), range(5)), allow_one_class=True)
    query = open_images(write(tmp_path / "query", range(7), range(5, 9)))
    gallery = open_images(write(tmp_path / "gallery", range(6), range(5)))
    settings = AdaptSettings(objective=objective, iterations=20, lr=1e-3, views=2)
    adapted, result = add_to_gallery(model, support, query, gallery, settings)
    new, other = result.rows
    assert (new.queries, new.count, other.count) == ("new classes", 4, 24)
    assert new.gallery is None
    assert other.gallery is not None
    assert new.added > 0.7
    assert other.added <= other.gallery
    assert new.adapted > 0.5
    assert other.adapted > 0.5
    assert isinstance(adapted, Embedder)


def test_the_command_adds_to_a_gallery_and_saves(tmp_path: Path) -> None:
    support = write(tmp_path / "support", range(6, 7), range(5))
    query = write(tmp_path / "query", range(8), range(5, 8))
    gallery = write(tmp_path / "gallery", range(6), range(6))
    out = tmp_path / "adapted"
    result = adapt("--support", support, "--queries", query, "--gallery", gallery, "--out", out)
    assert result.exit_code == 0, result.output
    assert "new classes" in result.stdout
    assert "(-)" in result.stdout
    assert str(out) in result.stdout
    assert "6 query images are also gallery images" in result.stderr
    assert "c7" in result.stderr
    assert (out / "model.json").exists()


@pytest.mark.parametrize(
    ("options", "location"),
    [
        (("--device", "gpu"), "--device"),
        (("--objective", "marign"), "--objective"),
        (("--views", "0"), "--views"),
        (("--lr", "-1"), "--lr"),
        (("--layers", "first"), "--layers"),
    ],
)
def test_bad_options_are_refused_before_images_are_read(
    options: tuple[str, ...], location: str
) -> None:
    result = adapt("--support", "nowhere", "--queries", "nowhere", *options)
    assert isinstance(result.exception, OodmlError)
    assert result.exception.location == location


def test_weights_apply_to_a_backbone(tmp_path: Path) -> None:
    support = write(tmp_path / "support", range(3), range(2))
    query = write(tmp_path / "query", range(3), range(2, 4))
    options = ("--support", support, "--queries", query)
    result = CliRunner().invoke(
        app, ["adapt", "--model", "small", "--weights", "none", *map(str, options),
              "--objective", "prototypes", "--out", str(tmp_path / "m")]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    again = adapt("--model", tmp_path / "m", "--weights", "none", *options)
    assert isinstance(again.exception, OodmlError)
    assert again.exception.location == "--weights"
