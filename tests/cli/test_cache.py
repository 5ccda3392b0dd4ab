from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.datasets import open_images
from oodml.images.pixel_cache import resized_images
from tests.images.samples import squares, write_folder


def run(*command: str) -> str:
    result = CliRunner().invoke(app, ["data", "cache", *command])
    assert result.exit_code == 0, result.output
    return result.output


def test_pixels_are_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    assert "empty" in run()
    images = open_images(write_folder(squares(2, 4), tmp_path / "photos"))
    resized_images(images, 20)
    output = run()
    assert "    photos: 8 images, short side 20, 9.6 kB" in output
    assert "  contents: 1 file" in output
    assert "freed" in run("--clear", "pixels", "--yes")
    assert "photos" not in run()
    assert resized_images(images, 20).input_image(0).shape == (20, 20, 3)


def test_an_unknown_part_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    resized_images(open_images(write_folder(squares(2, 4), tmp_path / "photos")), 20)
    result = CliRunner().invoke(app, ["data", "cache", "--clear", "pixel", "--yes"])
    assert result.exit_code != 0
    assert "'pixels'" in str(result.exception)
