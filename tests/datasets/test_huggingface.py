"""Hugging Face datasets, from a folder on disk; skipped where the extra is not installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.images.fingerprint import fingerprint

from .trees import grow

NAMES = ["train/cat/1.png", "train/dog/1.jpg", "train/dog/2.png", "test/cat/9.png"]


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(OodmlError, match="pip install 'datasets"):
        open_images("hf:cifar10")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    return str(grow(tmp_path / "animals", NAMES))


def test_all_splits_become_the_partition(folder: str) -> None:
    images = open_images(f"hf:{folder}")
    assert images.name == "animals"
    assert images.partition is not None
    pairs = sorted(zip(images.partition.tolist(), images.classes.tolist(), strict=True))
    assert pairs == [("test", "cat"), ("train", "cat"), ("train", "dog"), ("train", "dog")]
    assert images.root is not None
    for name in NAMES:
        part, kind, _ = name.split("/")
        rows = np.flatnonzero((images.partition == part) & (images.classes == kind))
        files = [images.path(row).read_bytes() for row in rows.tolist()]
        assert (Path(folder) / name).read_bytes() in files


def test_one_split_and_the_same_files_again(folder: str) -> None:
    images = open_images(f"hf:{folder}", split="train")
    assert images.class_names == ("cat", "dog")
    again = open_images(f"hf:{folder}", split="train")
    assert (again.root, fingerprint(again)) == (images.root, fingerprint(images))


def test_a_folder_of_save_to_disk(folder: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.load_dataset(folder)
    whole.save_to_disk(tmp_path / "saved")
    images = open_images(tmp_path / "saved")
    assert images.partition is not None
    assert sorted(images.partition.tolist()) == ["test", "train", "train", "train"]
    assert len(open_images(tmp_path / "saved", split="test")) == 1
    with pytest.raises(OodmlError, match="train"):
        open_images(tmp_path / "saved", split="trian")
    whole["train"].save_to_disk(tmp_path / "single")
    assert open_images(f"hf:{tmp_path / 'single'}").class_names == ("cat", "dog")


def test_errors_name_what_is_missing(folder: str) -> None:
    with pytest.raises(OodmlError, match="'label'"):
        open_images(f"hf:{folder}", label="labels")
    with pytest.raises(OodmlError, match="'label'"):
        open_images(f"hf:{folder}", image="label")
    with pytest.raises(OodmlError, match="nowhere"):
        open_images(f"hf:{folder}/nowhere")
