"""Folders of images: depth, order, odd names."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oodml.datasets.folder import dataset
from oodml.errors import OodmlError
from oodml.images.fingerprint import fingerprint

from .trees import draw, grow


def test_classes_are_the_folders(tmp_path: Path) -> None:
    images = dataset(grow(tmp_path, ["b/2.png", "a/1.jpg", "b/1.webp"]))
    assert images.ids.tolist() == ["a/1.jpg", "b/1.webp", "b/2.png"]
    assert images.classes.tolist() == ["a", "b", "b"]
    assert images.superclasses is None


def test_equal_class_names_in_two_superclasses_stay_distinct(tmp_path: Path) -> None:
    images = dataset(grow(tmp_path, ["cats/small/1.png", "dogs/small/1.png", "dogs/big/1.png"]))
    assert images.class_names == ("cats/small", "dogs/big", "dogs/small")
    assert images.superclass_of["dogs/small"] == "dogs"


def test_unusual_names_and_suffixes_are_read(tmp_path: Path) -> None:
    names = ["naïve café/ü 1.JPG", "鳥/写真.Png", "a b/x.y.TIF", "a b/z.jpeg", "c/[1]#%.bmp"]
    images = dataset(grow(tmp_path, names))
    assert sorted(images.ids.tolist()) == sorted(names)
    assert all(images.read(row).size == (12, 10) for row in range(len(images)))


def test_hidden_and_other_files_are_skipped(tmp_path: Path) -> None:
    grow(tmp_path, ["a/1.png", "b/1.png", ".cache/x/1.png", "a/.2.png", "a/.thumbs/1.png"])
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "empty").mkdir()
    assert dataset(tmp_path).ids.tolist() == ["a/1.png", "b/1.png"]


def test_links_are_followed_but_not_in_loops(tmp_path: Path) -> None:
    grow(tmp_path / "elsewhere", ["1.png"])
    root = grow(tmp_path / "root", ["a/1.png"])
    (root / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "a" / "2.png").symlink_to(root / "a" / "1.png")
    (root / "a" / "up").symlink_to(root, target_is_directory=True)
    images = dataset(root)
    assert images.ids.tolist() == ["a/1.png", "a/2.png", "b/1.png"]
    (root / "a" / "gone.png").symlink_to(root / "nothing.png")
    with pytest.raises(OodmlError, match=r"gone\.png"):
        dataset(root).read(2)


def test_the_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path, [f"{kind}/{number}.png" for kind in "abc" for number in range(3)])
    expected = dataset(tmp_path)
    real = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            self.entries = sorted(real(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    images = dataset(tmp_path)
    assert images.ids.tolist() == expected.ids.tolist()
    assert fingerprint(images) == fingerprint(expected)


@pytest.mark.parametrize(
    ("names", "given"),
    [
        ([], None),
        (["1.png"], "1.png"),
        (["a/1.png", "2.png"], "2.png"),
        (["a/b/c/1.png"], "a/b/c/1.png"),
        (["a/1.png", "b/c/1.png"], "a/1.png"),
        (["a/1.png", "a/2.png"], "a"),
    ],
)
def test_other_trees_are_refused(tmp_path: Path, names: list[str], given: str | None) -> None:
    with pytest.raises(OodmlError) as error:
        dataset(grow(tmp_path, names))
    assert error.value.location == str(tmp_path)
    assert error.value.given == given


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    grow(tmp_path, ["a/1.png", "b/1.png"])
    try:
        os.rename(bytes(tmp_path / "a" / "1.png"), bytes(tmp_path) + b"/a/\xff.png")
    except OSError:
        pytest.skip("the file system accepts only UTF-8 names")
    with pytest.raises(OodmlError, match="UTF-8"):
        dataset(tmp_path)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.sets(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0."), min_size=1, max_size=20),
        min_size=2,
        max_size=4,
    )
)
def test_any_class_name_comes_back(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for seed, name in enumerate(names):
        draw(root / name / "1.png", seed, (2, 2))
    assert set(dataset(root).classes.tolist()) == names
