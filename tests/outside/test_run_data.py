"""Runs on data with lists of its own, and with losses that change the images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import oodml
from oodml.adaptation.episodes import Queries
from oodml.errors import OodmlError
from oodml.evaluate.evaluation import evaluate_vectors
from oodml.evaluate.query_lists import QueryLists, query_lists
from oodml.images.image_set import ImageSet
from oodml.study.launch import run_study
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
        lists = query_lists(images.subset(vectors.class_names))
        assert lists is not None
        mask = lists.queries
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
        again = evaluate_vectors(vectors).metrics  # as `oodml evaluate vectors.npz` does
        for name in ("recall@1", "map", "nmi", "density"):
            assert again[name] == pytest.approx(values[name], abs=1e-9)
        checked += 1
    assert checked >= 2


def _queries(images: ImageSet) -> np.ndarray:
    lists = query_lists(images)
    assert lists is not None
    np.testing.assert_array_equal(lists.gallery, ~lists.queries)
    return lists.queries


def test_query_lists() -> None:
    images = listed_images()
    assert query_lists(squares()) is None
    standard = images.subset(images.class_names[4:])
    np.testing.assert_array_equal(_queries(standard), standard.partition == "query")
    mixed = images.subset(images.class_names[2:])
    mask = _queries(mixed)
    for name in mixed.class_names:
        rows = mixed.classes == name
        listed = mixed.partition[rows] == "query"  # type: ignore[index]
        if listed.any():
            np.testing.assert_array_equal(mask[rows], listed)
        else:
            assert mask[rows].sum() == 3
    shuffled = mixed.select(np.random.default_rng(0).permutation(len(mixed)))
    order, again = np.argsort(mixed.ids), np.argsort(shuffled.ids)
    np.testing.assert_array_equal(mask[order], _queries(shuffled)[again])


def test_few_shot_queries_are_searched_in_the_gallery_without_support() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 8)
    vectors = random.normal(size=(5, 6))[labels] + random.normal(size=(40, 6))
    queries, gallery = random.random(40) < 0.5, random.random(40) < 0.7
    support = {str(name): [int(np.flatnonzero(labels == name)[0])] for name in range(5)}
    rows = [members[0] for members in support.values()]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = []
    for row in np.flatnonzero(queries):
        others = [i for i in np.flatnonzero(gallery) if i not in (row, *rows)]
        if row not in rows and (labels[others] == labels[row]).any():
            hits.append(labels[others[int((unit[others] @ unit[row]).argmax())]] == labels[row])
    lists = QueryLists(queries, gallery)
    measured = Queries(labels, support, ("recall@1",), lists).evaluate(torch.from_numpy(vectors))
    assert measured["recall@1"] == pytest.approx(np.mean(hits))


def test_flags_in_tables_of_images(tmp_path: Path) -> None:
    write_folder(squares(classes=4, each=4), tmp_path / "photos")
    images = oodml.datasets.open_images(tmp_path / "photos")
    lines = ["path,label,split,is_query,is_gallery"]
    for row, (name, label) in enumerate(zip(images.ids, images.classes, strict=True)):
        if label in images.class_names[:2]:
            lines.append(f"photos/{name},{label},train,,")
        else:
            lines.append(f"photos/{name},{label},validation,{row % 4 == 0},{row % 4 != 1}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines))
    tested = oodml.datasets.open_images(table).subset(images.class_names[2:])
    lists = query_lists(tested)
    assert lists is not None
    assert (lists.queries.sum(), lists.gallery.sum()) == (2, 6)
    table.write_text("\n".join(lines).replace("True", "perhaps"))
    with pytest.raises(OodmlError) as raised:
        oodml.datasets.open_images(table)
    assert raised.value.allowed == ("true", "false")


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors", ".npy"])
def test_files_of_vectors_keep_the_lists(tmp_path: Path, suffix: str) -> None:
    labels = np.repeat(["a", "b", "c"], 4)
    parts = np.tile(["query", "gallery", "both", "unlisted"], 3)
    vectors = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    VectorSet(vectors, labels, partition=parts).save(tmp_path / f"v{suffix}")
    read = VectorSet.load(tmp_path / f"v{suffix}")
    assert read.partition is not None
    np.testing.assert_array_equal(read.partition, parts)
    result = evaluate_vectors(read, retrieval_only=True)
    assert result.metrics["queries"] == 6
    assert result.sizes["vectors"] == 9
    lists = query_lists(read)
    assert lists is not None
    expected = oodml.retrieval_metrics(**lists.arguments(vectors, labels))
    assert result.metrics["map"] == pytest.approx(expected["map"])


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
