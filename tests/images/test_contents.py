import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.images import hashes as module
from oodml.images.contents import contents, refuse_corrupt
from oodml.images.image_set import ImageSet

from .samples import squares, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of four images, long unchanged."""
    root = write_folder(squares(2, 4), tmp_path / "data")
    for file in root.rglob("*.png"):
        os.utime(file, (1e9, 1e9))
    return root


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe files that were made just now (a file's time of change can't be set back)."""
    monkeypatch.setattr(module, "SETTLED", -1e6)


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that are decoded from now on."""
    rows: list[int] = []
    read = ImageSet.read

    def noted(self: ImageSet, index: int, at_least: int | None = None) -> Image.Image:
        rows.append(index)
        return read(self, index, at_least)

    monkeypatch.setattr(ImageSet, "read", noted)
    return rows


def test_files_are_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, said = decoded(monkeypatch), list[str]()
    first = contents(open_images(folder), said.append)
    assert sorted(rows) == list(range(8))
    assert said == ["looking whether all images of data can be read: 8"]
    again = contents(open_images(folder), said.append)
    assert len(rows) == 8
    assert len(said) == 1
    np.testing.assert_array_equal(first.hashes, again.hashes)
    assert first.complete
    assert not first.problems.any()


def test_only_a_changed_file_is_decoded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(open_images(folder))
    broken = folder / "c01" / "006.png"
    broken.write_bytes(broken.read_bytes()[:-20] + bytes(20))
    rows = decoded(monkeypatch)
    after = contents(open_images(folder))
    assert rows == [6]
    assert (before.hashes != after.hashes).tolist() == [row == 6 for row in range(8)]
    assert [bool(problem) for problem in after.problems] == [row == 6 for row in range(8)]
    assert "006.png" in after.problems[6]
    contents(open_images(folder))
    assert rows == [6]  # that it is broken is remembered, too


def test_a_part_of_the_images_is_known_with_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(folder)
    half, rest = images.subset(["c01"]), images.subset(["c00"])
    first = contents(half)
    rows = decoded(monkeypatch)
    whole = contents(images)
    assert sorted(rows) == [0, 1, 2, 3]
    assert whole.hashes[4:].tolist() == first.hashes.tolist()
    assert contents(rest).hashes.tolist() == whole.hashes[:4].tolist()
    assert len(rows) == 4


def test_a_file_changed_just_now_is_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED", 1e6)
    contents(open_images(folder))
    rows = decoded(monkeypatch)
    contents(open_images(folder))
    assert sorted(rows) == list(range(8))


def test_a_stated_time_in_the_future_is_neither_doubted_nor_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED", 0.0)
    file, future = folder / "c00" / "001.png", time.time() + 7200
    os.utime(file, (future, future))
    before = contents(open_images(folder))
    rows = decoded(monkeypatch)
    contents(open_images(folder))
    assert rows == []
    time.sleep(0.05)  # longer than a tick of the system's clock
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(file, (future, future))
    after = contents(open_images(folder))
    assert rows == [1]
    assert before.hashes[1] != after.hashes[1]


def test_a_damaged_memory_is_not_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = open_images(folder)
    contents(images)
    module.memory_file(images).write_bytes(b"PK\x03\x04 nothing")
    rows = decoded(monkeypatch)
    assert contents(images).complete
    assert len(rows) == 8


def test_a_file_that_is_gone_is_a_problem(folder: Path) -> None:
    images = open_images(folder)
    (folder / "c00" / "001.png").unlink()
    found = contents(images)
    assert "001.png" in found.problems[1]
    assert found.problems.astype(bool).sum() == 1


def test_images_in_memory_have_no_problems() -> None:
    assert not contents(squares(2, 3)).problems.any()


def test_corrupt_images_are_named_up_to_ten() -> None:
    images = squares(2, 2)
    refuse_corrupt(images, ["", ""], "Do this.")
    with pytest.raises(OodmlError, match=r"squares: 1 image is corrupt. Do this.\n  a.png: torn$"):
        refuse_corrupt(images, ["", "a.png: torn"], "Do this.")
    with pytest.raises(OodmlError, match=r"12 images are corrupt(.|\n)*9: torn\n  … and 2 more$"):
        refuse_corrupt(images, [f"{number}: torn" for number in range(12)], "Do this.")
