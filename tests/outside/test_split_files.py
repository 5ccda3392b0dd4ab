"""Split files of other people: damaged, edited, of another version; and what they must record."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from oodml import Episode, OodmlError, Progression, Split, read_splits, write_splits
from oodml.checks.samples import squares
from oodml.cli import app
from oodml.embedding import embed
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.files import to_text
from oodml.shift.published_format import to_published
from oodml.study.prepare import read_split_file
from oodml.study.spec.study_file import SplitFile

FUZZ = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SPLITS = Progression(
    (
        Split(-2, ("a", "b"), ("c", "ü"), 0.3, ("b",), {1: (Episode({"c": ("1",), "ü": ("2",)}),)}),
        Split("R4", ("a", "c"), ("b", "d"), 17.0, ("c",)),
    ),
    "exact",
    settings={"harder": 3},
    data="example",
    seed=3,
)


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def outcome(path: Path) -> Progression | OodmlError:
    """The progression, or the only kind of error that is allowed."""
    try:
        return read_splits(path)
    except OodmlError as error:
        return error


def assert_refused(error: object, path: Path) -> None:
    assert isinstance(error, OodmlError)
    assert error.location.startswith(str(path))
    assert str(path) in str(error)


def damage(data: st.DataObject, content: bytes) -> bytes:
    """Cut the content, or change, insert, or remove a few bytes."""
    raw = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        kind = data.draw(st.sampled_from(["cut", "change", "insert", "remove"]))
        if kind == "cut":
            del raw[position:]
        elif kind == "change" and raw:
            raw[position] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            raw[position:position] = data.draw(st.binary(min_size=1, max_size=9))
        elif raw:
            del raw[position]
    return bytes(raw)


@FUZZ
@given(st.data())
def test_damaged_json_is_refused_or_unchanged(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "splits.json"
    path.write_bytes(damage(data, to_text(SPLITS).encode()))
    actual = outcome(path)
    if isinstance(actual, Progression):
        assert actual == SPLITS
    else:
        assert_refused(actual, path)


@FUZZ
@given(st.data(), st.sampled_from([0, 2, 4]), st.booleans())
def test_damaged_pickles_are_refused_or_consistent(
    tmp_path: Path, data: st.DataObject, protocol: int, scalars: bool
) -> None:
    layout = to_published(SPLITS)
    if scalars:
        layout[1]["fid"] = np.float64(layout[1]["fid"])
        layout[1]["test"] = [np.str_(name) for name in layout[1]["test"]]
    path = tmp_path / "splits.pkl"
    path.write_bytes(damage(data, pickle.dumps(layout, protocol=protocol)))
    actual = outcome(path)
    if isinstance(actual, Progression):
        write_splits(actual, tmp_path / "again.json")
        assert read_splits(tmp_path / "again.json") == actual
    else:
        assert_refused(actual, path)


@pytest.mark.parametrize(
    ("split", "key", "value"),
    [
        (0, "train", "ab"),
        (0, "shift", "1"),
        (0, "episodes", {"02": []}),
        (0, "episodes", {"two": []}),
        (1, "test", ["b", 7]),
        (1, "colour", "red"),
    ],
)
def test_wrong_values_are_located(tmp_path: Path, split: int, key: str, value: object) -> None:
    document = json.loads(to_text(SPLITS)) | {"hash": ""}
    document["splits"][split][key] = value
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    error = outcome(path)
    assert_refused(error, path)
    assert key in str(error)


@pytest.mark.parametrize("nested", [b"\x85" * 60_000, b"N\x86" * 60_000, b"N\x86q\x01" * 60_000])
def test_nested_tuples_as_keys_do_not_overflow_the_stack(tmp_path: Path, nested: bytes) -> None:
    path = tmp_path / "splits.pkl"
    path.write_bytes(b"\x80\x02})" + nested + b"Ns.")
    assert_refused(outcome(path), path)


def test_a_pickle_cannot_modify_the_reader(tmp_path: Path) -> None:
    """BUILD sets attributes of what is on the stack; the reader's functions must refuse it."""
    path = tmp_path / "splits.pkl"
    for state in (b"}X\x09\x00\x00\x00_functionNs", b"N}X\x01\x00\x00\x00xNs\x86"):
        path.write_bytes(b"\x80\x02cnumpy\ndtype\n" + state + b"b.")
        assert_refused(outcome(path), path)
    with_scalar = {1: {"train": ["a"], "test": [np.str_("b")], "fid": np.float64(2.5)}}
    path.write_bytes(pickle.dumps(with_scalar, protocol=2))
    assert read_splits(path)[0].shift == 2.5


def test_exported_splits_keep_their_steps(tmp_path: Path) -> None:
    write_splits(SPLITS, tmp_path / "splits.json")
    for words in (
        ("export", tmp_path / "splits.json", "--out", tmp_path / "splits.pkl"),
        ("export", tmp_path / "splits.pkl", "--out", tmp_path / "again.json"),
    ):
        assert run("splits", *words).exit_code == 0
    again = read_splits(tmp_path / "again.json")
    assert again.splits == SPLITS.splits


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight classes of six images, each class with its own coarse pattern."""
    for c in range(8):
        folder = tmp_path / "photos" / f"c{c}"
        folder.mkdir(parents=True)
        base = np.random.default_rng(c).integers(0, 255, (8, 8, 3)).astype(int)
        for k in range(6):
            noise = np.random.default_rng([c, k]).integers(-60, 60, (8, 8, 3))
            pixels = (base + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((40, 40)).save(folder / f"{k}.png")
    return tmp_path / "photos"


def test_splits_are_measured_on_the_input_they_were_built_on(tmp_path: Path, photos: Path) -> None:
    file, old = tmp_path / "splits.json", tmp_path / "old.json"
    options = ("--data", photos, "--backbone", "small", "--weights", "none", "--image-size", 32)
    built = run("splits", "build", *options, "--out", file)
    assert built.exit_code == 0, built.output
    assert str(file) in built.output
    progression = read_splits(file)
    assert progression.settings["image_size"] == 32
    shown = run("shift", "--splits", file, "--data", photos, "--json", "--resamples", 0)
    values = {row["measure"]: row["value"] for row in json.loads(shown.stdout)["measures"]}
    assert values["fid_class_means"] == pytest.approx(progression[-1].shift, rel=1e-5)
    assert "image-size" not in shown.stderr

    document = json.loads(file.read_text()) | {"hash": "", "settings": {}}
    old.write_text(json.dumps(document))
    assumed = run("shift", "--splits", old, "--data", photos, "--json", "--resamples", 0)
    assert assumed.exit_code == 0, assumed.output
    assert "--image-size" in assumed.stderr
    same = run("shift", "--splits", old, "--data", photos, "--json", "--resamples", 0,
               "--image-size", 32, "--weights", "none")  # fmt: skip
    assert json.loads(same.stdout) == json.loads(shown.stdout)


def test_splits_of_a_weights_file_require_the_file(tmp_path: Path, photos: Path) -> None:
    file = tmp_path / "splits.json"
    run("splits", "build", "--data", photos, "--backbone", "pixels", "--out", file)
    document = json.loads(file.read_text()) | {"hash": ""}
    document["settings"]["weights"] = "0123456789abcdef"
    file.write_text(json.dumps(document))
    result = run("shift", "--splits", file, "--data", photos)
    assert isinstance(result.exception, OodmlError)
    assert result.exception.location == "--weights"


def test_show_lists_the_files_it_wrote(tmp_path: Path, photos: Path) -> None:
    file, figure, maps = (tmp_path / name for name in ("s.json", "fid.png", "maps.png"))
    run("splits", "build", "--data", photos, "--backbone", "pixels", "--out", file)
    shown = run("splits", "show", file, "--figure", figure, "--maps", maps, "--data", photos)
    assert f"wrote {figure}" in shown.output
    assert f"wrote {maps}" in shown.output


@pytest.mark.parametrize(
    ("command", "options", "given"),
    [
        ("shift", ("--device", "gpu"), "gpu"),
        ("shift", ("--pooling", "mean"), "mean"),
        ("shift", ("--image-size", "-5"), -5),
        ("shift", ("--image-size", "0"), 0),
        ("shift", ("--measure", "fid"), "fid"),
        ("build", ("--device", "cuda:99"), "cuda:99"),
        ("build", ("--image-size", "0"), 0),
        ("build", ("--n-splits", "0"), None),
        ("build", ("--measure", "kid"), "kid"),
    ],
)
def test_bad_options_are_refused(
    tmp_path: Path, photos: Path, command: str, options: tuple[str, ...], given: object
) -> None:
    words = {
        "shift": ("shift", photos, photos, "--backbone", "pixels"),
        "build": ("splits", "build", "--data", photos, "--backbone", "pixels", "--out",
                  tmp_path / "x.json"),
    }  # fmt: skip
    result = run(*words[command], *options)
    assert isinstance(result.exception, OodmlError), result.exception
    assert given is None or result.exception.given == given
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("change", ["class", "image"])
def test_splits_that_do_not_fit_the_images_name_the_file(tmp_path: Path, change: str) -> None:
    images = squares(classes=6, each=3)
    settings = SplitSettings(backbone="pixels", n_splits=1)  # type: ignore[call-arg]
    built = build_progression(embed(images, "pixels"), settings, (1,), 1, images)
    document = json.loads(to_text(built)) | {"hash": ""}
    split = document["splits"][0]
    if change == "class":
        split["test"].append("unknown")
    else:
        support = split["episodes"]["1"][0]["support"]
        support[next(iter(support))] = ["unknown"]
    file = tmp_path / "splits.json"
    file.write_text("\ufeff" + json.dumps(document), encoding="utf-8")
    read_splits(file)  # a byte-order mark is ignored
    with pytest.raises(OodmlError) as raised:
        read_split_file(SplitFile(file=file), images)
    assert raised.value.location == str(file)
