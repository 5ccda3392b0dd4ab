"""A worker uses the images and the code that the study was planned for, or refuses."""

import sys
from pathlib import Path

import pytest

from oodml.catalog import make_importable
from oodml.errors import OodmlError
from oodml.study.folder.store import Store
from oodml.study.prepare import open_context, prepare, views_of
from oodml.study.spec.study_file import read_study
from tests.study.toy import make_study, toy_study

DATA = """
from oodml.datasets import open_images

def photos(root):
    return open_images(root)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "out")
    store.create()
    return store


def test_images_that_changed_since_the_plan_are_refused(tmp_path: Path, store: Store) -> None:
    study = toy_study(tmp_path)
    prepare(study, store)
    open_context(store, "cpu")
    file = tmp_path / "photos" / "elm" / "1.png"
    before = file.read_bytes()
    file.write_bytes((tmp_path / "photos" / "fir" / "1.png").read_bytes())
    with pytest.raises(OodmlError, match="images of photos"):
        open_context(store, "cpu")
    prepare(study, store)
    open_context(store, "cpu")
    file.write_bytes(before)
    with pytest.raises(OodmlError, match="images of photos"):
        open_context(store, "cpu")


def test_code_that_changed_since_the_plan_is_refused(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    study = toy_study(tmp_path)
    (tmp_path / "own_photos_5.py").write_text(DATA)
    make_importable(tmp_path)
    data = study.data.model_copy(
        update={"name": "own_photos_5:photos", "options": {"root": str(tmp_path / "photos")}}
    )
    study = study.model_copy(update={"data": data})
    prepare(study, store)
    open_context(store, "cpu")
    (tmp_path / "own_photos_5.py").write_text(DATA + "# another line")
    with pytest.raises(OodmlError, match="own_photos_5:photos"):
        open_context(store, "cpu")
    prepare(study, store)
    open_context(store, "cpu")


def test_a_worker_does_not_read_unchanged_files(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodml.images.fingerprint.SETTLE_SECONDS", -1e6)
    prepare(toy_study(tmp_path), store)
    monkeypatch.setattr("oodml.images.fingerprint.read_file", None)
    open_context(store, "cpu")


def test_a_network_without_training_is_embedded_without_augmented_views(
    tmp_path: Path, store: Store
) -> None:
    study = toy_study(tmp_path, more='[methods.none]\nmethod = "frozen"\n')
    prepare(study, store)
    views = {run.label: views_of(run) for run in store.read_plan().runs}
    assert views == {"margin": 1, "multisimilarity": 1, "none": 0}


def test_runs_that_a_changed_setting_repeats_are_announced(tmp_path: Path, store: Store) -> None:
    messages, file = list[str](), make_study(tmp_path)
    prepare(read_study(file), store)
    first = store.read_plan().runs[0]
    (store.runs / first.id).mkdir()
    prepare(read_study(file), store, log=messages.append)
    assert not any("epochs" in message for message in messages)
    file.write_text(file.read_text() + "[train]\nepochs = 7\n")
    prepare(read_study(file), store, log=messages.append)
    total = len(store.read_plan().runs)
    assert any(f"[train] epochs changed: 1 of {total} runs" in message for message in messages)
