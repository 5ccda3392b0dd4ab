import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from oodml import OodmlError, read_splits
from oodml.cli import app
from oodml.shift.controls import remeasure
from tests.shift.samples import clustered

RUNNER = CliRunner()


def run(*words: object) -> str:
    """What the command prints; its error if it ends in one."""
    result = RUNNER.invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    clustered(16, n_images=6).save(tmp_path / "vectors.npz")
    return tmp_path / "vectors.npz"


@pytest.fixture
def built(tmp_path: Path, vectors: Path) -> Path:
    out = tmp_path / "splits.json"
    run("splits", "build", "--vectors", vectors, "--out", out, "--shots", 2, "--episodes", 2)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The images that the made-up vectors could be of."""
    generator = np.random.default_rng(0)
    for name in clustered(16).class_names:
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


def test_build_show_and_check(built: Path) -> None:
    progression = read_splits(built)
    assert len(progression) == 5
    shown = run("splits", "show", built)
    for split in progression:
        assert str(split.step) in shown
        assert f"{split.shift:.4g}" in shown
    assert "2×2" in shown
    assert "5 splits" in run("splits", "check", built)


def test_build_writes_controls_of_splits_that_lost_classes(tmp_path: Path, vectors: Path) -> None:
    out = tmp_path / "removed.json"
    options = ["--procedure", "published", "--removal", 6, "--swaps", 1, "--n-splits", "all"]
    run("splits", "build", "--vectors", vectors, "--out", out, *options, "--controls", 2)
    controls = read_splits(tmp_path / "removed.controls.json")
    of = {str(split.step): split for split in read_splits(out)}
    for control in controls:
        split = of[str(control.step).split(" control ")[0]]
        assert (len(control.train), len(control.test)) == (len(split.train), len(split.test))
        assert len(split.train) < 8


def test_a_folder_of_images_is_built_checked_and_drawn(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "folder.json"
    run("splits", "build", "--data", folder, "--backbone", "pixels", "--out", out, "--shots", 1)
    assert "no problems" in run("splits", "check", out, "--data", folder)
    paths = [tmp_path / name for name in ("fid.png", "maps.png")]
    options = ["--figure", paths[0], "--maps", paths[1], "--data", folder]
    run("splits", "show", out, *options)
    for path in paths:
        with Image.open(path) as image:
            assert image.size[0] > 300
    (folder / "c003" / "0.png").rename(folder / "c003" / "moved.png")
    support = [e.support for s in read_splits(out) for es in s.episodes.values() for e in es]
    assert any("c003/0.png" in drawn.get("c003", ()) for drawn in support)
    with pytest.raises(OodmlError, match="mismatches"):
        run("splits", "check", out, "--data", folder)


def test_exported_splits_can_be_imported(tmp_path: Path, built: Path) -> None:
    exported, back = tmp_path / "splits.pkl", tmp_path / "back.json"
    run("splits", "export", built, "--out", exported)
    layout = pickle.loads(exported.read_bytes())
    assert layout[1]["train"] == list(read_splits(built)[0].train)
    run("splits", "export", exported, "--out", back)
    for before, after in zip(read_splits(built), read_splits(back), strict=True):
        assert (before.train, before.test, before.episodes) == (
            after.train, after.test, after.episodes,
        )  # fmt: skip


def test_shift_of_two_files_and_of_a_split_as_json(
    tmp_path: Path, vectors: Path, built: Path
) -> None:
    features = clustered(16, n_images=6)
    split = read_splits(built)[-1]
    parts = {"a": features.subset(split.train), "b": features.subset(split.test)}
    for name, part in parts.items():
        part.save(tmp_path / f"{name}.npz")
    files = run("shift", tmp_path / "a.npz", tmp_path / "b.npz", "--json", "--resamples", 10)
    of_split = run(
        "shift", "--splits", built, "--vectors", vectors, "--json", "--resamples", 10
    )  # fmt: skip
    assert json.loads(files) == json.loads(of_split)
    by_name = {row["measure"]: row for row in json.loads(files)["measures"]}
    assert by_name["fid_class_means"]["value"] == pytest.approx(split.shift, rel=1e-6)
    table = run("shift", tmp_path / "a.npz", tmp_path / "b.npz", "--measure", "kid")
    assert "kid" in table
    assert f"{by_name['kid']['value']:.4g}" in table


def test_shift_of_two_folders(folder: Path) -> None:
    printed = run("shift", folder, folder, "--backbone", "pixels", "--json", "--resamples", 0)
    values = {row["measure"]: row["value"] for row in json.loads(printed)["measures"]}
    assert values["fid_class_means"] == pytest.approx(0, abs=1e-6)


def test_backbones_are_compared(tmp_path: Path, folder: Path) -> None:
    out, figure = tmp_path / "folder.json", tmp_path / "agreement.png"
    run("splits", "build", "--data", folder, "--backbone", "pixels", "--out", out)
    options = ["--data", folder, "--backbones", "pixels,small"]
    printed = run("splits", "backbones", out, *options, "--figure", figure)
    assert "Kendall" in printed
    assert figure.exists()


def test_the_folder_of_a_study_is_its_split_file(built: Path, tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_bytes(built.read_bytes())
    both = [json.loads(run("splits", "show", one, "--json")) for one in (built, tmp_path)]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("words", "location"),
    [
        (("splits", "build", "--out", "x.json"), "--data"),
        (("shift", "a"), "A B"),
        (("shift", "a", "b", "--splits", "s.json"), "--splits"),
    ],
)
def test_missing_options_are_refused(words: tuple[str, ...], location: str) -> None:
    with pytest.raises(OodmlError) as error:
        run(*words)
    assert error.value.location == location


def test_a_wrong_option_is_located(vectors: Path, tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="procedure"):
        run("splits", "build", "--vectors", vectors, "--out", tmp_path / "x.json",
            "--procedure", "exakt")  # fmt: skip


def test_measured_on_the_same_features_is_unchanged(built: Path, vectors: Path) -> None:
    progression = read_splits(built)
    again = remeasure(progression, clustered(16, n_images=6))
    assert [s.shift for s in again] == pytest.approx([s.shift for s in progression], rel=1e-9)
