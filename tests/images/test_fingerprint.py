import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.images import fingerprint as module
from oodml.images.fingerprint import check_files, fingerprint, refuse_corrupt
from oodml.images.image_set import ImageSet

from .samples import squares, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of four images, modified long ago."""
    root = write_folder(squares(2, 4), tmp_path / "data")
    for file in root.rglob("*.png"):
        os.utime(file, (1e9, 1e9))
    return root


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the times of new files; the change time cannot be set back."""
    monkeypatch.setattr(module, "SETTLE_SECONDS", -1e6)


def decoded_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the rows that are decoded from now on."""
    rows: list[int] = []
    read = ImageSet.read

    def recorded(self: ImageSet, index: int, at_least: int | None = None) -> Image.Image:
        rows.append(index)
        return read(self, index, at_least)

    monkeypatch.setattr(ImageSet, "read", recorded)
    return rows


def test_files_are_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, messages = decoded_rows(monkeypatch), list[str]()
    first = check_files(open_images(folder), messages.append)
    assert sorted(rows) == list(range(8))
    assert "8 images of data" in messages[0]
    again = check_files(open_images(folder), messages.append)
    assert len(rows) == 8
    assert len(messages) == 1
    np.testing.assert_array_equal(first.hashes, again.hashes)
    assert first.decoded.all()
    assert not first.problems.any()


def test_only_a_changed_file_is_decoded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = check_files(open_images(folder))
    broken = folder / "c01" / "006.png"
    broken.write_bytes(broken.read_bytes()[:-20] + bytes(20))
    rows = decoded_rows(monkeypatch)
    after = check_files(open_images(folder))
    assert rows == [6]
    assert (before.hashes != after.hashes).tolist() == [row == 6 for row in range(8)]
    assert [bool(problem) for problem in after.problems] == [row == 6 for row in range(8)]
    assert "006.png" in after.problems[6]
    check_files(open_images(folder))
    assert rows == [6]  # the problem is cached, too


def test_a_subset_and_the_whole_share_records(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(folder)
    half, rest = images.subset(["c01"]), images.subset(["c00"])
    first = check_files(half)
    rows = decoded_rows(monkeypatch)
    whole = check_files(images)
    assert sorted(rows) == [0, 1, 2, 3]
    assert whole.hashes[4:].tolist() == first.hashes.tolist()
    assert check_files(rest).hashes.tolist() == whole.hashes[:4].tolist()
    assert len(rows) == 4


def test_the_record_of_a_file_changed_just_now_is_not_cached(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 1e6)
    check_files(open_images(folder))
    rows = decoded_rows(monkeypatch)
    check_files(open_images(folder))
    assert sorted(rows) == list(range(8))


def test_a_modification_time_in_the_future_is_handled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    file, future = folder / "c00" / "001.png", time.time() + 7200
    os.utime(file, (future, future))
    before = check_files(open_images(folder))
    rows = decoded_rows(monkeypatch)
    check_files(open_images(folder))
    assert rows == []
    time.sleep(0.05)  # longer than a tick of the system's clock
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(file, (future, future))
    after = check_files(open_images(folder))
    assert rows == [1]
    assert before.hashes[1] != after.hashes[1]


def test_a_damaged_cache_is_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = open_images(folder)
    check_files(images)
    module.table_path(images).write_bytes(b"PK\x03\x04 nothing")
    rows = decoded_rows(monkeypatch)
    assert check_files(images).decoded.all()
    assert len(rows) == 8


def test_a_missing_file_is_a_problem(folder: Path) -> None:
    images = open_images(folder)
    (folder / "c00" / "001.png").unlink()
    problems = check_files(images).problems
    assert "001.png" in problems[1]
    assert problems.astype(bool).sum() == 1


def test_images_in_memory_have_no_problems() -> None:
    assert not check_files(squares(2, 3)).problems.any()


def test_at_most_ten_corrupt_images_are_named() -> None:
    images = squares(2, 2)
    refuse_corrupt(images, ["", ""], "Do this.")
    with pytest.raises(OodmlError, match="Do this") as error:
        refuse_corrupt(images, ["", "a.png: damaged"], "Do this.")
    assert error.value.location == "squares"
    assert error.value.given == ["a.png: damaged"]
    with pytest.raises(OodmlError) as error:
        refuse_corrupt(images, [f"{number}.png: damaged" for number in range(12)], "Do this.")
    assert "9.png" in str(error.value)
    assert "10.png" not in str(error.value)


def test_fingerprint_ignores_the_order_but_not_classes_or_contents() -> None:
    ids, classes = np.array(list("abcdef")), np.array(list("bacabc"))
    pixels = np.arange(72, dtype=np.uint8).reshape(6, 3, 4)
    images = ImageSet("toy", ids, classes, pixels=pixels)
    assert fingerprint(images.select(np.arange(6)[::-1].copy())) == fingerprint(images)
    assert fingerprint(replace(images, classes=np.array(list("bacabb")))) != fingerprint(images)
    changed = pixels.copy()
    changed[2, 1, 1] += 1
    assert fingerprint(replace(images, pixels=changed)) != fingerprint(images)


def test_fingerprint_detects_a_changed_or_missing_file(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (9, 8)).save(tmp_path / "b.png")
    files = np.array(["a.png", "b.png"])
    before = fingerprint(ImageSet("disk", files, files, root=tmp_path))
    Image.effect_noise((64, 64), 50).save(tmp_path / "b.png")
    assert fingerprint(ImageSet("disk", files, files, root=tmp_path)) != before
    (tmp_path / "a.png").unlink()
    with pytest.raises(OodmlError, match=r"a\.png"):
        _ = fingerprint(ImageSet("disk", files, files, root=tmp_path))


def test_fingerprint_depends_on_the_bytes_of_files(tmp_path: Path) -> None:
    """Other pixels, the same size and modification time."""
    file, ids = tmp_path / "a.bmp", np.array(["a.bmp"])
    fingerprints = []
    for shade in (0, 1, 0):
        Image.new("L", (8, 8), shade).save(file)
        os.utime(file, (1e9, 1e9))
        fingerprints.append(fingerprint(ImageSet("disk", ids, ids, root=tmp_path)))
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]


def test_files_are_read_for_a_fingerprint_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(write_folder(squares(3, 40), tmp_path / "data"))
    paths = hashed_paths(monkeypatch)
    whole = fingerprint(images)
    assert len(paths) == 120
    check_files(images.subset(["c00"]))  # decoding reads files, too, but keeps all records
    paths.clear()
    assert fingerprint(open_images(tmp_path / "data")) == whole
    part = images.subset(["c01", "c02"])
    assert fingerprint(part) != whole
    assert paths == []
    images.path(7).write_bytes(images.path(8).read_bytes())
    assert fingerprint(open_images(tmp_path / "data")) != whole
    assert paths == [images.path(7)]
    assert fingerprint(images.subset(["c01", "c02"])) == fingerprint(part)


def test_a_file_changed_just_now_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodml.images.fingerprint.SETTLE_SECONDS", 1e6)
    images = open_images(write_folder(squares(2, 2), tmp_path / "data"))
    _ = fingerprint(images)
    paths = hashed_paths(monkeypatch)
    _ = fingerprint(open_images(tmp_path / "data"))
    assert len(paths) == 4


def test_a_fingerprint_needs_no_writable_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(write_folder(squares(2, 2), tmp_path / "data"))
    before = fingerprint(images)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "file"))
    assert fingerprint(open_images(tmp_path / "data")) == before


def hashed_paths(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Record the files that are hashed from now on."""
    paths: list[Path] = []
    original = module.read_file

    def read_file(path: Path) -> tuple[str, str]:
        paths.append(path)
        return original(path)

    monkeypatch.setattr("oodml.images.fingerprint.read_file", read_file)
    return paths
