"""Runs on data with lists of its own, and with losses that change the images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import oodml
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.study.launch import run_study
from oodml.study.run_inputs import query_mask
from oodml.study.spec.study_file import read_study
from oodml.vectors import VectorSet
from tests.images.samples import squares, write_folder

SPLITS = 'splits = {backbone = "pixels", n_splits = 2}\n'


def listed_images() -> ImageSet:
    """Eight classes of six images; four classes have query and gallery lists."""
    images = squares(classes=8, each=6)
    trained = np.isin(images.classes, images.class_names[:4])
    third = np.arange(len(images)) % 3 == 0
    partition = np.where(trained, "train", np.where(third, "query", "gallery"))
    return ImageSet(
        images.name, images.ids, images.classes, pixels=images.pixels, partition=partition
    )


def test_the_lists_of_a_dataset_decide_what_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = listed_images()
    columns = {name: getattr(images, name) for name in ("ids", "classes", "pixels", "partition")}
    np.savez(tmp_path / "images.npz", **columns)
    (tmp_path / "listed_data_of_a_test.py").write_text(
        "import numpy as np\nfrom oodml import ImageSet\n"
        "def images():\n"
        f"    return ImageSet('listed', **np.load({str(tmp_path / 'images.npz')!r}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "study.toml"
    file.write_text(
        f'data = "listed_data_of_a_test:images"\nmethods = ["frozen"]\n{SPLITS}'
        'model = {backbone = "pixels", image_size = 16}\n'
    )
    run_study(read_study(file), tmp_path / "out", device="cpu", threads=1)
    results = pd.read_parquet(tmp_path / "out" / "results.parquet")
    checked = 0
    for folder in (tmp_path / "out" / "runs").iterdir():
        vectors = VectorSet.load(folder / "vectors.npz")
        mask = query_mask(images.subset(vectors.class_names))
        assert mask is not None
        expected = oodml.retrieval_metrics(
            vectors.vectors[mask],
            vectors.labels[mask],
            gallery=vectors.vectors[~mask],
            gallery_labels=vectors.labels[~mask],
        )
        rows = results[(results.run == folder.name) & (results.stage == "zero_shot")]
        values = rows.set_index("metric").value
        assert values["recall@1"] == pytest.approx(expected["recall@1"], abs=1e-12)
        assert values["queries"] == mask.sum()
        checked += 1
    assert checked >= 2


def test_query_masks() -> None:
    images = listed_images()
    assert query_mask(squares()) is None
    standard = images.subset(images.class_names[4:])
    np.testing.assert_array_equal(query_mask(standard), standard.partition == "query")
    mixed = images.subset(images.class_names[2:])
    mask = query_mask(mixed)
    assert mask is not None
    for name in mixed.class_names:
        rows = mixed.classes == name
        listed = mixed.partition[rows] == "query"  # type: ignore[index]
        if listed.any():
            np.testing.assert_array_equal(mask[rows], listed)
        else:
            assert mask[rows].sum() == 3
    shuffled = mixed.select(np.random.default_rng(0).permutation(len(mixed)))
    order, again = np.argsort(mixed.ids), np.argsort(shuffled.ids)
    np.testing.assert_array_equal(mask[order], query_mask(shuffled)[again])  # type: ignore[index]


def rotation_study(folder: Path, model: str) -> Path:
    write_folder(squares(classes=8, each=6), folder / "photos")
    file = folder / "study.toml"
    file.write_text(
        f'data = "photos"\n{SPLITS}model = {{{model}}}\n'
        "train = {epochs = 2, batch_size = 8, lr = 1e-3}\n"
        '[methods.rotation]\nmethod = "criterion"\nloss = "image_rotation"\n'
    )
    return file


def test_image_rotation_trains(tmp_path: Path) -> None:
    model = 'backbone = "small", mode = "finetune", dim = 8, image_size = 24'
    file = rotation_study(tmp_path, model)
    status = run_study(read_study(file), tmp_path / "out", device="cpu", threads=1)
    assert not status.failed
    for history in (tmp_path / "out" / "runs").glob("*/history.csv"):
        losses = pd.read_csv(history)["image_rotation"]
        assert len(losses) == 2
        assert losses.between(0, 3).all()


def test_image_rotation_is_refused_on_cached_features(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="finetune"):
        read_study(rotation_study(tmp_path, 'backbone = "pixels"'))


def test_a_run_without_training_has_a_history_with_a_header(tmp_path: Path) -> None:
    write_folder(squares(classes=8, each=4), tmp_path / "photos")
    file = tmp_path / "study.toml"
    file.write_text(f'data = "photos"\nmethods = ["frozen"]\n{SPLITS}'
                    'model = {backbone = "pixels", image_size = 16}\n')  # fmt: skip
    run_study(read_study(file), tmp_path / "out", device="cpu", threads=1)
    (history, *_) = (tmp_path / "out" / "runs").glob("*/history.csv")
    assert pd.read_csv(history).columns.tolist() == ["epoch"]
