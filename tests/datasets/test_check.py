"""`check`, `without_corrupt`, and `oodml data check`."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.datasets import open_images, without_corrupt
from oodml.datasets._check import check
from oodml.errors import OodmlError
from oodml.model_input import check_images
from oodml.study.spec.study_file import read_study

from .trees import draw, grow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Class a: 3 images, one repeated; b: 2, one equal to an image of a; c: 2, one corrupt."""
    root = grow(tmp_path / "data", ["a/1.png", "a/2.png", "b/1.png", "c/1.png", "c/2.png"])
    shutil.copy(root / "a/1.png", root / "a/3.png")
    shutil.copy(root / "a/2.png", root / "b/2.bmp.png")
    draw(root / "b/1.png", 99, (30, 20))
    whole = (root / "c/2.png").read_bytes()
    (root / "c/2.png").write_bytes(whole[: len(whole) // 2])
    return root


def test_the_report_is_complete(root: Path) -> None:
    calls: list[int] = []
    report = check(open_images(root), minimum=3, advance=lambda: calls.append(1))
    assert len(calls) == report.images == 7
    assert (report.classes, report.superclasses) == (3, 0)
    assert report.width == (12.0, 12.0, 30.0)
    assert report.height == (10.0, 10.0, 20.0)
    assert report.per_class == (1.0, 2.0, 3.0)
    assert list(report.corrupt) == ["c/2.png"]
    assert report.too_small == {"b": 2, "c": 1}
    assert report.duplicates == (("a/2.png", "b/2.bmp.png"),)
    assert report.repeats == 1


def test_the_same_image_in_another_format_is_a_duplicate(tmp_path: Path) -> None:
    root = grow(tmp_path, ["a/1.png", "b/1.png"])
    draw(root / "b/2.bmp", 0)
    assert check(open_images(root)).duplicates == (("a/1.png", "b/2.bmp"),)


def test_corrupt_images_are_left_out_and_listed(root: Path) -> None:
    images = open_images(root, skip_corrupt=True)
    assert images.left_out == ("c/2.png",)
    assert len(images) == 6
    assert images.subset(["c"]).left_out == images.left_out
    assert without_corrupt(images) is images
    assert open_images(root).left_out == ()


def test_a_check_caches_which_images_can_be_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodml.images.fingerprint.SETTLE_SECONDS", -1e6)
    check(open_images(root))
    monkeypatch.setattr("oodml.images.fingerprint.decode_files", None)
    assert open_images(root, skip_corrupt=True).left_out == ("c/2.png",)


def test_a_minimum_below_a_pair_is_refused(root: Path) -> None:
    with pytest.raises(OodmlError) as error:
        check(open_images(root), minimum=1)
    assert (error.value.location, error.value.given) == ("minimum", 1)


def test_the_command_prints_a_table_and_exits_with_1_for_corrupt_images(root: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", str(root)], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "c/2.png" in result.output
    assert "a/2.png = b/2.bmp.png" in result.output
    (root / "c/2.png").unlink()
    assert CliRunner().invoke(app, ["data", "check", str(root)]).exit_code == 0


def test_the_command_prints_json(root: Path) -> None:
    result = CliRunner().invoke(app, ["data", "check", str(root), "--json", "--minimum", "3"])
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert list(printed["corrupt"]) == ["c/2.png"]
    assert printed["too_small"] == {"b": 2, "c": 1}
    assert printed["per_class"] == [1.0, 2.0, 3.0]


def test_the_command_accepts_a_root(tmp_path: Path) -> None:
    grow(tmp_path / "images", ["001.A/1.jpg", "002.B/1.jpg"])
    result = CliRunner().invoke(app, ["data", "check", "cub200", "--root", str(tmp_path)])
    assert result.exit_code == 0
    assert "cub200" in result.output


def test_a_first_study_leaves_out_corrupt_images_and_names_gaps(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    grow(root, [f"{name}/{number}.png" for name in "defghij" for number in "12"])
    draw(root / "single" / "1.png", 7)
    (root / "a" / "text.jpg").write_text("no image")
    (root / "empty").mkdir()
    checked = CliRunner().invoke(app, ["data", "check", "data"], env={"COLUMNS": "200"})
    line = 'data = {name = "data", skip_corrupt = true}'
    assert line in checked.output
    assert json.loads(CliRunner().invoke(app, ["data", "check", "data", "--json"]).stdout)[
        "empty_folders"
    ] == ["empty"]
    assert CliRunner().invoke(app, ["study", "init", "data"]).exit_code == 0
    text = Path("study.toml").read_text("utf-8")
    assert line in text
    assert "empty" in text
    assert read_study("study.toml").data.open().left_out == ("a/text.jpg", "c/2.png")
    with pytest.raises(OodmlError) as error:
        check_images(open_images("data"), (), print, {"name": "data", "options": {}})
    assert isinstance(error.value.given, list)
    assert len(error.value.given) == 2
    assert line in str(error.value)
