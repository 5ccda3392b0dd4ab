"""Embedding in shards: every source, corrupt images, resuming, and processes."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from oodml.bulk.embed import BulkSettings, embed_shards
from oodml.bulk.sources import open_source
from oodml.cli import app
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.evaluate.shards import Shards
from oodml.study.workers.local import process_context
from oodml.vectors import VectorSet
from tests.bulk.conftest import BAD, N, write_sources

SETTINGS = BulkSettings("small", options={"weights": "none", "image_size": 16})


def run(*words: object) -> Result:
    fixed = ("--model", "small", "--weights", "none", "--image-size", 16)
    texts = [str(word) for word in ("embed", *words, *fixed)]
    return CliRunner().invoke(app, texts, catch_exceptions=False)


def vectors_by_name(folder: Path) -> dict[str, Any]:
    """The vector of each image by the last part of its id, without suffix."""
    shards = Shards(folder)
    ids = shards.ids()
    assert ids is not None
    assert len(set(ids.tolist())) == len(ids)
    return dict(zip(map(stem, ids), shards.vectors(np.arange(len(shards))), strict=True))


def stem(name: str) -> str:
    return Path(name).stem


@pytest.fixture(scope="module")
def expected(sources: Path) -> dict[str, Any]:
    images = open_images(sources / "photos", skip_corrupt=True)
    made = embed(images, "small", weights="none", image_size=16, cache=False)
    return dict(zip(map(stem, made.ids), made.vectors, strict=True))


@pytest.mark.parametrize("data", ["photos", "tars", "urls.csv", "parquet", "tars/*.tar"])
def test_every_source_gives_the_vectors_of_one_file(
    sources: Path, expected: dict[str, Any], tmp_path: Path, data: str
) -> None:
    out = tmp_path / "vectors"
    kind = "npy" if data == "photos" else "parquet"
    words = ("--shard-size", 10, "--shard-format", kind, "--out", out)
    result = run("--data", sources / data, *words)
    shards = Shards(out)
    assert f"{len(shards.shards)} shards; 2 corrupt" in result.stdout
    assert len(shards) == N - len(BAD)
    assert shards.classes()[0].tolist() == ["c0", "c1", "c2", "c3"]
    with (out / "corrupt.csv").open() as file:
        corrupt = [row["id"] for row in csv.DictReader(file)]
    if data == "parquet":  # without a column of ids, they are FILE/ROW
        assert corrupt == ["0/7", "1/17"]
        assert VectorSet.load(out / "part-000000.parquet").attributes["camera"][0] == "a"
        rows = shards.vectors(np.arange(len(shards)))
        assert np.allclose(rows, [expected[name] for name in sorted(expected)])
    else:
        assert sorted(map(stem, corrupt)) == [f"{row:05}" for row in BAD]
        made = vectors_by_name(out)
        assert made.keys() == expected.keys()
        assert all(np.allclose(made[name], expected[name]) for name in made)


def test_finished_shards_are_not_embedded_again(sources: Path, tmp_path: Path) -> None:
    source = open_source(str(sources / "photos"), 12)
    embed_shards(source, tmp_path / "v", SETTINGS)
    first, second = (tmp_path / "v" / f"part-00000{number}.parquet" for number in (0, 1))
    before = first.stat().st_mtime_ns
    second.unlink()
    (tmp_path / "v" / ".part-000001.half.parquet").write_text("interrupted")
    assert len(Shards(tmp_path / "v").shards) == 3
    assert embed_shards(source, tmp_path / "v", SETTINGS) == (4, 2)
    assert first.stat().st_mtime_ns == before
    assert second.exists()
    assert not list((tmp_path / "v").glob(".part*"))


def test_other_images_or_networks_are_refused(sources: Path, tmp_path: Path) -> None:
    run("--data", sources / "tars", "--out", tmp_path / "v")
    for words in (("--data", sources / "photos"), ("--data", sources / "tars", "--pooling", "max")):
        with pytest.raises(OodmlError) as error:
            run(*words, "--out", tmp_path / "v")
        assert error.value.location == str(tmp_path / "v" / "embed.json")
    assert run("--data", "x", "--out", tmp_path / "v", "--workers", 0).exit_code == 2
    for words in (("--shard-format", "csv"), ("--on", "slurm")):
        with pytest.raises(OodmlError):
            run("--data", sources / "tars", "--out", tmp_path / "w", *words)
    with pytest.raises(OodmlError):
        run("--data", sources / "tars", "--out", tmp_path / "v.npz", "--workers", 2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(OodmlError):
        run("--data", sources / "tars", "--out", tmp_path / "other")


def test_changed_weights_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    settings = BulkSettings("small", options={"weights": str(file)})
    trained = BulkSettings(None, str(tmp_path))
    file.write_text("one")
    before = settings.identity(), trained.identity()
    file.write_text("two")
    assert all(
        a != b for a, b in zip(before, (settings.identity(), trained.identity()), strict=True)
    )


def test_a_shard_of_corrupt_images_is_empty(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(2):
            file = tmp_path / "photos" / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("no image")
    source = open_source(str(tmp_path / "photos"), 2)
    assert embed_shards(source, tmp_path / "v", SETTINGS) == (2, 4)
    assert embed_shards(source, tmp_path / "v", SETTINGS) == (2, 4)


def interrupted(data: str, out: Path, workers: int, on: str) -> None:
    embed_shards(open_source(data, 8), out, SETTINGS, workers, on)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("workers", "on"),
    [
        (1, "local"),
        pytest.param(2, "local", marks=pytest.mark.slow),
        pytest.param(2, "ray", marks=pytest.mark.slow),
    ],
)
def test_killed_twice_and_resumed_each_image_is_there_once(
    tmp_path: Path, workers: int, on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on == "ray":
        pytest.importorskip("ray")
        root = Path(__file__).parents[2]
        monkeypatch.setenv("PYTHONPATH", f"{root}{os.pathsep}{root / 'src'}")
    write_sources(tmp_path, 480)
    out, data = tmp_path / "v", str(tmp_path / "photos")
    for limit in (4, 15):
        process = process_context().Process(target=interrupted, args=(data, out, workers, on))
        process.start()
        while process.is_alive() and len(list(out.glob("part-*.parquet"))) < limit:
            process.join(0.005)
        process.kill()
        process.join()
    assert 15 <= len(list(out.glob("part-*.parquet"))) < 60
    assert embed_shards(open_source(data, 8), out, SETTINGS, workers, on) == (60, 2)
    ids = Shards(out).ids()
    assert ids is not None
    assert len(ids) == len(set(ids.tolist())) == 478
