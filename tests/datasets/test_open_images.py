"""What `open_images` takes: names, import paths, folders, tables."""

from pathlib import Path

import numpy as np
import pytest

from oodml.datasets import open_images
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


def test_a_name_goes_before_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path / "glyphs", ["a/1.png", "b/1.png"])
    monkeypatch.chdir(tmp_path)
    assert len(open_images("glyphs")) == 5780
    assert len(open_images("./glyphs")) == 2
    assert len(open_images(Path("glyphs"))) == 2


def test_the_users_own_function_is_reached_by_import_path() -> None:
    assert len(open_images(f"{__name__}:own", count=3)) == 3
    with pytest.raises(OodmlError, match="gave list; an ImageSet is expected"):
        open_images(f"{__name__}:wrong")
    with pytest.raises(OodmlError, match="cannot import"):
        open_images("nowhere.to_be:found")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("glyhps", {}, "unknown data set or folder 'glyhps'. Did you mean 'glyphs'"),
        ("no/such/folder", {}, "no such folder or table of images"),
        ("nothing.csv", {}, "no such folder or table of images"),
        (Path("glyphs"), {}, "no such folder or table of images"),
        ("glyphs", {"script": ["greek"]}, "unknown option 'script'. Did you mean 'scripts'"),
        ("cub200", {}, "missing 1 required positional argument: 'root'"),
        ("cub200", {"root": "/no/such"}, "root '/no/such' is not a folder"),
    ],
)
def test_what_is_not_there_is_an_error(
    data: str | Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(OodmlError, match=message):
        open_images(data, **options)


def test_the_root_of_a_folder_is_not_overruled(tmp_path: Path) -> None:
    root = grow(tmp_path / "birds", ["a/1.png", "b/1.png"])
    with pytest.raises(OodmlError, match="birds: a folder takes no option 'root'"):
        open_images(root, root=tmp_path)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(OodmlError, match="not a folder and not a table"):
        open_images(tmp_path / "notes.txt")
