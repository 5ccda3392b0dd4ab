"""Galleries that are read in chunks: the same results as in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.evaluate import ranks, shards, streaming
from oodml.evaluate.evaluation import evaluate_vectors
from oodml.evaluate.shards import Shards
from oodml.evaluate.streaming import evaluate_shards, parse_memory, sample_intervals, sample_queries
from oodml.ray_cluster import spread_on_ray
from oodml.vectors import VectorSet

DIMENSIONS = 8


def vector_set(n: int, n_classes: int, seed: int, dtype: type = np.float16) -> VectorSet:
    random = np.random.default_rng(seed)
    classes = random.integers(n_classes, size=n)
    centers = np.random.default_rng(99).normal(size=(n_classes, DIMENSIONS))
    rows = (centers[classes] + random.normal(size=(n, DIMENSIONS))).astype(dtype)
    ids = np.array([f"{seed}-{i}" for i in range(n)])
    return VectorSet(rows, np.array([f"class {c}" for c in classes]), ids)


def write_shards(folder: Path, vectors: VectorSet, n_files: int, suffix: str) -> Shards:
    folder.mkdir()
    for i, rows in enumerate(np.array_split(np.arange(len(vectors)), n_files)):
        part = vectors.select(rows)
        part.save(folder / f"part{i}{suffix}")
        if suffix == ".npy":
            np.save(folder / f"part{i}.npy", part.vectors.astype(np.float16))
    return Shards(folder)


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(shards, "CHUNK", 300 * DIMENSIONS)
    monkeypatch.setattr(ranks, "QUERIES", 40)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".safetensors"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("memory", [2**31, 2**14])
def test_a_gallery_of_files_gives_the_results_of_memory(
    tmp_path, suffix: str, distance: str, memory: int
) -> None:
    gallery, queries = vector_set(2000, 30, 1), vector_set(150, 20, 2)
    folder = write_shards(tmp_path / "gallery", gallery, 3, suffix)
    expected = evaluate_vectors(queries, gallery, distance=distance, retrieval_only=True)
    result = evaluate_shards(queries, folder, distance=distance, memory=memory)
    assert result.metrics == pytest.approx(expected.metrics, abs=1e-12)
    assert result.chance == pytest.approx(expected.chance, abs=1e-12)
    assert result.per_class["recall@1"].tolist() == pytest.approx(
        expected.per_class["recall@1"].tolist()
    )


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("memory", [2**31, 2**14])
def test_a_set_of_files_is_searched_for_its_own_vectors(tmp_path, memory: int) -> None:
    vectors = vector_set(1000, 30, 1)
    folder = write_shards(tmp_path / "set", vectors, 3, ".npy")
    expected = evaluate_vectors(vectors, retrieval_only=True).metrics
    result = evaluate_shards(None, folder, memory=memory).metrics
    assert result == pytest.approx({name: expected[name] for name in result}, abs=1e-12)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("distinct", [True, False])
def test_coins_decide_ties_of_large_galleries_only_if_they_are_accidents(
    tmp_path, monkeypatch, distinct: bool
) -> None:
    """The ranks of distinct scores stay; with scores of few values, all ties count."""
    settled = []
    monkeypatch.setattr(ranks, "PAIRS", 2000)
    settle = ranks.RankCounter.settle_ties
    monkeypatch.setattr(
        ranks.RankCounter,
        "settle_ties",
        lambda self, pairs: [settle(self, pairs), settled.append(self.coin is not None)],
    )
    sets = vector_set(3000, 600, 1, np.float32), vector_set(150, 300, 2, np.float32)
    gallery, queries = (
        one if distinct else replace(one, vectors=np.sign(one.vectors)) for one in sets
    )
    expected = evaluate_vectors(queries, gallery, retrieval_only=True).metrics
    monkeypatch.setattr(ranks, "LARGE", 1)
    folder = write_shards(tmp_path / "gallery", gallery, 2, ".parquet")
    result = evaluate_shards(queries, folder).metrics
    assert set(settled) == ({True} if distinct else set())
    if distinct:
        assert result == pytest.approx(expected, abs=1e-12)


def test_files_pass_through_the_buffers_of_a_device(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "CHUNK", 70 * DIMENSIONS)
    vectors = vector_set(300, 5, 1)
    for suffix in (".npy", ".parquet"):
        folder = write_shards(tmp_path / suffix, vectors, 1, suffix)
        (shard,) = folder.shards
        chunks = [chunk.clone() for chunk in shard.chunks(torch.device("cpu"))]
        assert [len(chunk) for chunk in chunks] == [70, 70, 70, 70, 20]
        assert torch.cat(chunks).dtype == torch.float32
        assert (torch.cat(chunks).numpy() == vectors.vectors).all()
        rows = np.array([3, 69, 70, 299])
        assert (shard.select(rows) == vectors.vectors[rows]).all()


@pytest.mark.usefixtures("small_chunks")
def test_own_images_of_queries_are_excluded(tmp_path) -> None:
    gallery = vector_set(600, 10, 1)
    queries = gallery.select(np.arange(0, 600, 7))
    folder = write_shards(tmp_path / "gallery", gallery, 2, ".npy")
    expected = evaluate_vectors(queries, gallery, retrieval_only=True).metrics
    result = evaluate_shards(queries, folder).metrics
    assert result == pytest.approx(expected, abs=1e-12)


def test_queries_without_positives_are_excluded(tmp_path) -> None:
    folder = write_shards(tmp_path / "gallery", vector_set(50, 2, 1), 1, ".parquet")
    queries = vector_set(80, 40, 2)
    result = evaluate_shards(queries, folder).metrics
    assert result["singletons"] == np.sum(~np.isin(queries.classes, ["class 0", "class 1"]))


def test_intervals_of_a_sample_cover_the_mean_over_all() -> None:
    random = np.random.default_rng(0)
    codes = np.sort(random.integers(60, size=5000))
    means = random.beta(2, 2, size=60)
    y = (random.random(5000) < means[codes]).astype(float)
    covered, draws = 0, 1000
    for seed in range(draws):
        rows = sample_queries(codes, 400, seed)
        low, high = sample_intervals({"positives": y[rows] + 1, "m": y[rows]}, 5000)["m"]
        covered += low <= y.mean() <= high
    assert 0.92 <= covered / draws <= 0.98


def test_every_class_has_its_share_of_a_sample() -> None:
    codes = np.repeat(np.arange(50), 100)
    rows = sample_queries(codes, 500, 0)
    assert np.bincount(codes[rows]).tolist() == [10] * 50
    assert len(np.unique(rows)) == 500


@pytest.mark.parametrize(("text", "size"), [("4GB", 4 * 2**30), ("500 mb", 500 * 2**20), ("7", 7)])
def test_sizes(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "many", "-1GB", "0GB"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(OodmlError) as raised:
        parse_memory(text)
    assert raised.value.given == text


def test_damaged_folders_are_refused_with_the_file(tmp_path) -> None:
    with pytest.raises(OodmlError, match="no file"):
        Shards(tmp_path)
    vectors = vector_set(20, 3, 1)
    folder = tmp_path / "set"
    write_shards(folder, vectors, 2, ".npy")
    rows = vectors.vectors[:10].copy()
    rows[4, 2] = np.inf
    np.save(folder / "part1.npy", rows)
    with pytest.raises(OodmlError) as raised:
        streaming.evaluate_shards(None, Shards(folder))
    assert (raised.value.location, raised.value.given) == (str(folder / "part1.npy"), 4)
    np.save(folder / "part1.npy", rows[:, :5])
    with pytest.raises(OodmlError) as raised:
        Shards(folder)
    assert raised.value.given == 5
    np.save(folder / "part1.npy", rows[:9])
    with pytest.raises(OodmlError) as raised:
        Shards(folder).classes()
    assert raised.value.location == str(folder / "part1.csv")
    (folder / "part1.csv").write_text("class,id\n" + "a,1\n" * 5 + ",2\n" + "a,3\n" * 3)
    with pytest.raises(OodmlError) as raised:
        Shards(folder).classes()
    assert raised.value.given == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("cluster")
def test_two_nodes_give_the_metrics_of_one_process(tmp_path) -> None:
    gallery, queries = vector_set(4000, 60, 1), vector_set(600, 40, 2)
    folder = write_shards(tmp_path / "gallery", gallery, 5, ".npy").folder
    queries.save(tmp_path / "queries.npz")
    command = ["evaluate", str(tmp_path / "queries.npz"), "--gallery", str(folder), "--json"]
    local, ray = (
        CliRunner().invoke(app, [*command, "--on", on], catch_exceptions=False).stdout
        for on in ("local", "ray")
    )
    assert ray == local
    with spread_on_ray("ray", "cpu") as spread:
        for queried, distance in ((queries, "euclidean"), (None, "cosine")):
            options: dict[str, Any] = {"distance": distance, "memory": 2**16}
            expected = evaluate_shards(queried, Shards(folder), **options)
            result = evaluate_shards(queried, Shards(folder, spread), **options)
            assert result.metrics == expected.metrics
            pd.testing.assert_frame_equal(result.per_class, expected.per_class, check_exact=True)
        shards_ = Shards(folder, spread)
        (folder / "part3.npy").unlink()
        with pytest.raises(OodmlError) as raised:
            evaluate_shards(queries, shards_)
        assert raised.value.location == str(folder / "part3.npy")


@pytest.mark.parametrize("words", [("--on", "ray"), ("--device", "cuda"), ("--on", "slurm")])
def test_nodes_and_devices_need_a_folder_of_files(tmp_path, words: tuple[str, str]) -> None:
    vector_set(30, 3, 1).save(tmp_path / "v.npz")
    with pytest.raises(OodmlError) as raised:
        CliRunner().invoke(
            app, ["evaluate", str(tmp_path / "v.npz"), *words], catch_exceptions=False
        )
    assert (raised.value.location, raised.value.given) == words
