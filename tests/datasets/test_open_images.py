"""`open_images` with names, import paths, folders, and tables."""

from pathlib import Path

import numpy as np
import pytest

from oodml.datasets import open_images, open_unlabeled
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

from .trees import grow


def own(count: int = 4) -> ImageSet:
    ids = np.array([f"{i}" for i in range(count)])
    return ImageSet("own", ids, ids, pixels=np.zeros((count, 2, 2), np.uint8))


def wrong() -> list[int]:
    return [1]


def test_a_folder_is_opened_by_path_text_or_name(tmp_path: Path) -> None:
    root = grow(tmp_path / "birds", ["a/1.png", "b/1.png"])
    assert open_images(root).ids.tolist() == open_images(str(root)).ids.tolist()
    assert open_images(root).name == "birds"
    assert open_images("folder", root=root, name="x").name == "x"


def test_a_name_takes_precedence_over_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path / "glyphs", ["a/1.png", "b/1.png"])
    monkeypatch.chdir(tmp_path)
    assert len(open_images("glyphs")) == 5780
    assert len(open_images("./glyphs")) == 2
    assert len(open_images(Path("glyphs"))) == 2


def test_a_user_function_is_found_by_import_path() -> None:
    assert len(open_images(f"{__name__}:own", count=3)) == 3
    with pytest.raises(OodmlError, match="ImageSet"):
        open_images(f"{__name__}:wrong")
    with pytest.raises(OodmlError, match="nowhere.to_be"):
        open_images("nowhere.to_be:found")


@pytest.mark.parametrize(
    ("data", "options", "word"),
    [
        ("glyhps", {}, "Did you mean 'glyphs'"),
        ("no/such/folder", {}, "no/such/folder"),
        ("nothing.csv", {}, "nothing.csv"),
        (Path("glyphs"), {}, "glyphs"),
        ("glyphs", {"script": ["greek"]}, "Did you mean 'scripts'"),
        ("cub200", {}, "'root'"),
        ("cub200", {}, "cub200:FOLDER"),
        ("cub200", {"root": "/no/such"}, "/no/such"),
        ("cub200:/no/such", {}, "/no/such"),
    ],
)
def test_errors_name_what_is_missing(
    data: str | Path, options: dict[str, object], word: str
) -> None:
    with pytest.raises(OodmlError, match=word):
        open_images(data, **options)


def test_the_root_of_a_folder_cannot_be_replaced(tmp_path: Path) -> None:
    root = grow(tmp_path / "birds", ["a/1.png", "b/1.png"])
    with pytest.raises(OodmlError) as error:
        open_images(root, root=tmp_path)
    assert (error.value.location, error.value.given) == (str(root), "root")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(OodmlError, match=r"notes\.txt"):
        open_images(tmp_path / "notes.txt")


def test_unknown_data_lists_what_can_be_typed() -> None:
    with pytest.raises(OodmlError) as error:
        open_images("nope")
    assert "glyphs" in error.value.allowed
    assert not {"folder", "table", "huggingface"} & set(error.value.allowed)
    assert "Did you mean" not in str(error.value)
    with pytest.raises(OodmlError) as error:
        open_unlabeled("nope")
    assert error.value.allowed == ()
