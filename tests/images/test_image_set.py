"""ImageSet: consistent columns, selection, and decoding."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodml.errors import OodmlError
from oodml.images.fingerprint import fingerprint
from oodml.images.image_set import ImageSet


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


def test_subset_names_a_missing_class() -> None:
    with pytest.raises(OodmlError) as error:
        in_memory().subset(["a", "z"])
    assert error.value.given == "z"
    assert error.value.allowed == ("a", "b", "c")


@pytest.mark.parametrize(
    ("changes", "location"),
    [
        ({"classes": np.array(["a"])}, "classes"),
        ({"partition": np.array(["train"])}, "partition"),
        ({"pixels": None}, "root"),
        ({"root": Path()}, "root"),
        ({"ids": np.array(list("abcdea"))}, "ids"),
        ({"superclasses": np.array(list("xyzxyz"))}, "superclasses"),
    ],
)
def test_inconsistent_columns_are_refused(changes: dict[str, object], location: str) -> None:
    with pytest.raises(OodmlError) as error:
        in_memory(**changes)
    assert error.value.location == location


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_read_as_rgb(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 7)).save(tmp_path / "a.tif")
    images = ImageSet("disk", np.array(["a.tif"]), np.array(["a"]), root=tmp_path)
    assert (images.read(0).mode, images.read(0).size) == ("RGB", (5, 7))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_gray_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [32768, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    images = ImageSet("disk", np.array([f"a{suffix}"]), np.array(["a"]), root=tmp_path)
    assert np.asarray(images.read(0))[..., 0].tolist() == [[0, 0, 1], [128, 156, 255]]


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_the_error_of_a_truncated_file_names_it(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    Image.effect_noise((64, 64), 50).save(whole)
    data = whole.read_bytes()
    for length in (0, 10, len(data) // 2):
        broken = tmp_path / f"broken{suffix}"
        broken.write_bytes(data[:length])
        images = ImageSet("disk", np.array([broken.name]), np.array(["a"]), root=tmp_path)
        with pytest.raises(OodmlError, match=f"broken{suffix}"):
            images.read(0)


def test_images_in_memory_may_be_encoded_or_of_pillow(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    stored = np.empty(2, dtype=object)
    stored[:] = [Image.fromarray(one) for one in pixels]
    encoded = np.empty(2, dtype=object)
    for row, picture in enumerate(stored):
        picture.save(tmp_path / "x.png")
        encoded[row] = (tmp_path / "x.png").read_bytes()
    names = np.array(["a", "b"])
    for own in (stored, encoded):
        images = ImageSet("memory", names, names, pixels=own)
        assert all(np.array_equal(images.read(row), pixels[row]) for row in range(2))
        again = ImageSet("memory", names, names, pixels=own.copy())
        assert fingerprint(images) == fingerprint(again)
        assert fingerprint(images) != fingerprint(
            ImageSet("memory", names, names, pixels=own[::-1])
        )
