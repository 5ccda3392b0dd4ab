"""ImageSet: columns that agree, selection, reading, fingerprints."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.images import hashes
from oodml.images.contents import contents
from oodml.images.image_set import ImageSet

from .samples import squares, write_folder


def in_memory(n: int = 6, **changes: object) -> ImageSet:
    columns: dict[str, object] = {
        "name": "toy",
        "ids": np.array([f"image{i}" for i in range(n)]),
        "classes": np.array(list("bacabc")[:n]),
        "pixels": np.arange(n * 12, dtype=np.uint8).reshape(n, 3, 4),
    }
    return ImageSet(**(columns | changes))  # type: ignore[arg-type]


def test_labels_index_the_sorted_class_names() -> None:
    images = in_memory()
    assert images.class_names == ("a", "b", "c")
    assert [images.class_names[label] for label in images.labels] == images.classes.tolist()


def test_subset_keeps_the_order_and_every_column() -> None:
    images = in_memory(
        superclasses=np.array(["y", "x", "y", "x", "y", "y"]),
        partition=np.array(["train"] * 3 + ["test"] * 3),
    )
    chosen = images.subset(["c", "b"])
    assert chosen.ids.tolist() == ["image0", "image2", "image4", "image5"]
    assert chosen.superclasses is not None
    assert chosen.superclasses.tolist() == ["y"] * 4
    assert chosen.partition is not None
    assert chosen.partition.tolist() == ["train", "train", "test", "test"]
    assert np.array_equal(np.asarray(chosen.read(1))[..., 0], images.pixels[2])  # type: ignore[index]


def test_subset_of_a_class_that_is_not_there_names_it() -> None:
    with pytest.raises(OodmlError, match="no class 'z'"):
        in_memory().subset(["a", "z"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": np.array(["a"])}, "1 classes for 6 images"),
        ({"partition": np.array(["train"])}, "1 partition for 6 images"),
        ({"pixels": None}, "either root or pixels"),
        ({"root": Path()}, "either root or pixels"),
        ({"ids": np.array(list("abcdea"))}, "'a' is listed twice"),
        ({"superclasses": np.array(list("xyzxyz"))}, "'b' is in two superclasses, 'x' and 'y'"),
    ],
)
def test_columns_that_disagree_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OodmlError, match=message):
        in_memory(**changes)


def test_fingerprint_ignores_the_order_but_not_contents_or_classes() -> None:
    images = in_memory()
    assert images.select(np.arange(6)[::-1].copy()).fingerprint == images.fingerprint
    assert in_memory(classes=np.array(list("bacabb"))).fingerprint != images.fingerprint
    changed = images.pixels.copy()  # type: ignore[union-attr]
    changed[2, 1, 1] += 1
    assert in_memory(pixels=changed).fingerprint != images.fingerprint


def test_fingerprint_on_disk_sees_a_file_that_changed_or_went(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (9, 8)).save(tmp_path / "b.png")
    files = np.array(["a.png", "b.png"])
    before = ImageSet("disk", files, files, root=tmp_path).fingerprint
    Image.effect_noise((64, 64), 50).save(tmp_path / "b.png")
    assert ImageSet("disk", files, files, root=tmp_path).fingerprint != before
    (tmp_path / "a.png").unlink()
    with pytest.raises(OodmlError, match=r"a\.png"):
        _ = ImageSet("disk", files, files, root=tmp_path).fingerprint


def test_fingerprint_on_disk_is_of_the_bytes(tmp_path: Path) -> None:
    """Other pixels in a file of the same size and stated time."""
    file, ids = tmp_path / "a.bmp", np.array(["a.bmp"])
    found = []
    for shade in (0, 1, 0):
        Image.new("L", (8, 8), shade).save(file)
        os.utime(file, (1e9, 1e9))
        found.append(ImageSet("disk", ids, ids, root=tmp_path).fingerprint)
    assert found[0] == found[2] != found[1]


def test_files_are_read_for_a_fingerprint_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodml.images.hashes.SETTLED", -1e6)
    images = open_images(write_folder(squares(3, 40), tmp_path / "data"))
    rows = noted(monkeypatch)
    whole = images.fingerprint
    assert len(rows) == 120
    contents(images.subset(["c00"]))  # it reads them to decode them; what is known stays known
    del rows[:]
    assert open_images(tmp_path / "data").fingerprint == whole
    part = images.subset(["c01", "c02"])
    assert part.fingerprint != whole
    assert rows == []
    images.path(7).write_bytes(images.path(8).read_bytes())
    assert open_images(tmp_path / "data").fingerprint != whole
    assert rows == [images.path(7)]
    assert images.subset(["c01", "c02"]).fingerprint == part.fingerprint


def test_a_file_changed_just_now_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodml.images.hashes.SETTLED", 1e6)
    images = open_images(write_folder(squares(2, 2), tmp_path / "data"))
    _ = images.fingerprint
    rows = noted(monkeypatch)
    _ = open_images(tmp_path / "data").fingerprint
    assert len(rows) == 4


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(write_folder(squares(2, 2), tmp_path / "data"))
    before = images.fingerprint
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "file"))
    assert open_images(tmp_path / "data").fingerprint == before


def noted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed from now on."""
    paths: list[Path] = []
    hash_once = hashes.hash_of

    def hash_of(path: Path) -> str:
        paths.append(path)
        return hash_once(path)

    monkeypatch.setattr("oodml.images.hashes.hash_of", hash_of)
    return paths


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_read_as_rgb(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 7)).save(tmp_path / "a.tif")
    images = ImageSet("disk", np.array(["a.tif"]), np.array(["a"]), root=tmp_path)
    assert (images.read(0).mode, images.read(0).size) == ("RGB", (5, 7))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [32768, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    images = ImageSet("disk", np.array([f"a{suffix}"]), np.array(["a"]), root=tmp_path)
    assert np.asarray(images.read(0))[..., 0].tolist() == [[0, 0, 1], [128, 156, 255]]


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    Image.effect_noise((64, 64), 50).save(whole)
    data = whole.read_bytes()
    for length in (0, 10, len(data) // 2):
        broken = tmp_path / f"broken{suffix}"
        broken.write_bytes(data[:length])
        images = ImageSet("disk", np.array([broken.name]), np.array(["a"]), root=tmp_path)
        with pytest.raises(OodmlError, match=f"broken{suffix}: not a readable image"):
            images.read(0)
