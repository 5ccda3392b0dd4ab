"""Packs: reproducible, without local names, openable anywhere, and every change is detected."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.report.folder import read_folder
from oodml.report.page import page_data, report_thumbnails
from oodml.report.tables import tables
from oodml.share import archive
from oodml.share.pack import open_pack, pack_study, study_folder, without_paths
from tests.share.studies import planned_study

PRIVATE = ("/home/zebulon", "zebulon-laptop")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageSet]:
    """A study whose files name a home folder and a host in many places."""
    folder = tmp_path_factory.mktemp("made") / "stripes"
    model = {"backbone": "lite0", "mode": "head", "weights": f"{PRIVATE[0]}/resnet.pth"}
    methods = {"margin": 0.7, "proxy_anchor": 0.71}
    images = planned_study(folder, methods, host=PRIVATE[1], model=model)
    plan = json.loads((folder / "plan.json").read_text()) | {
        "source": {"name": f"{PRIVATE[0]}/photos", "options": {"root": f"{PRIVATE[0]}/x"}},
        "import_from": [PRIVATE[0]], "keeping": {"trackers": [f"{PRIVATE[0]}/runs"]},
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "study.toml").write_text(
        f'# --data {PRIVATE[0]}/my photos\ndata = "{PRIVATE[0]}/my photos"  # see {PRIVATE[0]}/x\n'
    )
    (folder / "failed").mkdir()
    (folder / "failed" / "01.txt").write_text(f"x\nOSError: {PRIVATE[0]}/a b/c.jpg is gone\n")
    return folder, images


@pytest.fixture(scope="module")
def packed(study: tuple[Path, ImageSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("packed") / "stripes.zip"
    pack_study(study[0], file, images=study[1])
    return file


def test_the_same_study_gives_the_same_bytes(
    study: tuple[Path, ImageSet], packed: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(study[0], elsewhere)
    pack_study(elsewhere, tmp_path / "again.zip", images=study[1])
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_a_pack_names_no_folder_host_or_user(packed: Path) -> None:
    content = packed.read_bytes()
    assert not any(name.encode() in content for name in (*PRIVATE, "zebulon"))


def test_a_packed_study_has_the_same_page_without_images(
    study: tuple[Path, ImageSet], tmp_path: Path
) -> None:
    original = read_folder(*study)
    pictures = report_thumbnails(original)
    pack_study(study[0], tmp_path / "a.zip", vectors=True, images=study[1], thumbnails=pictures)
    open_pack(tmp_path / "a.zip", tmp_path / "opened")
    opened = read_folder(tmp_path / "opened")
    first, second = tables(original), tables(opened)
    assert set(first) == set(second)
    for name in first:
        shown = (table[name].drop(columns="host", errors="ignore") for table in (first, second))
        pd.testing.assert_frame_equal(*shown, check_exact=True)
    before, after = page_data(original, first), page_data(opened, second)
    assert set(before["images"]) == set(after["images"])  # drawn from the thumbnails
    different = {key for key in before if before[key] != after[key]}
    assert different <= {"images", "samples"}


def test_without_vectors_the_tables_are_the_same(
    study: tuple[Path, ImageSet], packed: Path
) -> None:
    with study_folder(packed) as folder:
        opened = tables(read_folder(folder))
    original = tables(read_folder(*study))
    for name in ("curves", "ags", "pairs", "ranks", "chance", "few_shot", "progression"):
        pd.testing.assert_frame_equal(original[name], opened[name])


def test_every_changed_byte_is_found(packed: Path, tmp_path: Path) -> None:
    content = packed.read_bytes()
    generator = np.random.default_rng(0)
    positions = {*range(32), *range(len(content) - 32, len(content))}
    positions |= set(generator.integers(0, len(content), 40).tolist())
    for position in sorted(positions):
        changed = bytearray(content)
        changed[position] ^= int(generator.integers(1, 256))
        file = tmp_path / "changed.zip"
        file.write_bytes(changed)
        with pytest.raises(OodmlError):
            open_pack(file, tmp_path / f"opened-{position}")
        assert not (tmp_path / f"opened-{position}").exists()
    for file_content in (content[:-1], content + b"\0", content[:100], b""):
        (tmp_path / "cut.zip").write_bytes(file_content)
        with pytest.raises(OodmlError):
            open_pack(tmp_path / "cut.zip", tmp_path / "cut")


def forge(packed: Path, out: Path, name: str, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(out, "w") as target:
        for member in source.namelist():
            target.writestr(member, source.read(member))
        target.writestr(name, b"x" * 1000, compress_type=method)
    return out


OUTSIDE = (
    *("../evil.txt", "/etc/evil", "runs/../../evil.txt", "evil.py", "runs/a/model.py"),
    *("C:\\evil.txt", "runs/a/b/run.json"),
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_files_outside_the_format_are_refused(packed: Path, tmp_path: Path, name: str) -> None:
    file = forge(packed, tmp_path / "forged.zip", name)
    with pytest.raises(OodmlError) as caught:
        open_pack(file, tmp_path / "deep" / "opened")
    assert caught.value.location == name
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["forged.zip"]


def test_compressed_and_repeated_members_are_refused(packed: Path, tmp_path: Path) -> None:
    bomb = forge(packed, tmp_path / "bomb.zip", "runs/a/run.json", zipfile.ZIP_DEFLATED)
    with pytest.raises(OodmlError):
        open_pack(bomb, tmp_path / "opened")
    with pytest.warns(UserWarning, match="Duplicate"), pytest.raises(OodmlError):
        open_pack(forge(packed, tmp_path / "twice.zip", "plan.json"), tmp_path / "opened")


def test_too_large_packs_are_refused(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SIZE_LIMIT", 1000)
    with pytest.raises(OodmlError):
        open_pack(packed, tmp_path / "opened")


def test_an_existing_folder_is_not_overwritten(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OodmlError) as caught:
        open_pack(packed, tmp_path)
    assert caught.value.location == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/zebulon/x.pth", "x.pth"),
        ("~/x.pth", "x.pth"),
        ("C:\\Users\\zebulon\\x.pth", "x.pth"),
        ("sharp/0.png", "sharp/0.png"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("cannot read /home/zebulon/a.jpg: gone", "cannot read a.jpg: gone"),
        ("hf:user/name", "hf:user/name"),
        ("lr 1e-3 / 2", "lr 1e-3 / 2"),
    ],
)
def test_paths_lose_their_folders(text: str, expected: str) -> None:
    assert without_paths([{"a": text}]) == [{"a": expected}]
