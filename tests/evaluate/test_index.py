from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from typer.testing import CliRunner

import oodml
from oodml.cli import app
from oodml.errors import OodmlError
from oodml.evaluate.index import index_errors, write_index


def cloud(n: int = 1500) -> oodml.VectorSet:
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 150
    rows = generator.standard_normal((150, 24))[labels] + generator.standard_normal((n, 24))
    return oodml.VectorSet(
        rows.astype(np.float32), labels.astype(np.str_), np.arange(n).astype(np.str_)
    )


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_exact_recall_equals_the_metric(tmp_path: Path, kind: str, distance: str) -> None:
    vectors = cloud()
    report = write_index(
        vectors, tmp_path / "x.faiss", kind=kind, distance=distance, queries=len(vectors)
    )
    metrics = oodml.retrieval_metrics(vectors.vectors, vectors.classes, distance=distance)
    assert report.exact_recall == pytest.approx(metrics["recall@1"], abs=1e-3)
    assert report.neighbor_recall == 1 if kind == "flat" else 0.5 < report.neighbor_recall <= 1
    assert faiss.read_index(str(tmp_path / "x.faiss")).ntotal == len(vectors)


def test_recall_grows_with_effort(tmp_path: Path) -> None:
    recalls = [
        write_index(cloud(), tmp_path / "x.faiss", kind="ivf", effort=effort).neighbor_recall
        for effort in (1, 8, 154)
    ]
    assert recalls[0] < recalls[1] < recalls[2] == 1


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError) as unknown_kind:
        write_index(cloud(), tmp_path / "x.faiss", kind="flatt")
    assert unknown_kind.value.allowed == ("flat", "hnsw", "ivf")
    with pytest.raises(OodmlError) as too_few:
        write_index(cloud(1), tmp_path / "x.faiss")
    assert too_few.value.given == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("separate", [False, True])
def test_errors_of_the_index_are_separated_from_those_of_the_model(
    tmp_path: Path, separate: bool
) -> None:
    vectors = cloud()
    gallery = vectors.select(np.random.default_rng(1).permutation(len(vectors)))
    path = tmp_path / "x.faiss"
    write_index(gallery, path, kind="ivf", effort=1)
    queries = vectors if separate else gallery
    table = index_errors(queries, path, gallery if separate else None, ks=(1, 5), resamples=50)
    metrics = oodml.retrieval_metrics(vectors.vectors, vectors.classes, ks=(1, 5))
    assert table["exact"].tolist() == pytest.approx([metrics["recall@1"], metrics["recall@5"]])
    index = faiss.read_index(str(path))
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    hits, right = [], []
    exact = unit @ unit.T
    np.fill_diagonal(exact, -2)
    for row in range(len(vectors)):
        near = [gallery.ids[j] for j in index.search(unit[row : row + 1], 3)[1][0] if j >= 0]
        near = [name for name in near if name != vectors.ids[row]]
        hits.append(bool(near) and vectors.classes[int(near[0])] == vectors.classes[row])
        right.append(vectors.classes[exact[row].argmax()] == vectors.classes[row])
    first = table.iloc[0]
    assert first["index"] == pytest.approx(np.mean(hits))
    assert first["lost"] == pytest.approx(np.mean(np.array(right) & ~np.array(hits)))
    assert first["lost"] - first["gained"] == pytest.approx(first["loss"])
    assert first["low"] <= first["loss"] <= first["high"]


def test_another_index_than_of_the_gallery_is_refused(tmp_path: Path) -> None:
    vectors = cloud()
    write_index(vectors, tmp_path / "x.faiss")
    for other, distance in ((vectors.select(np.arange(100)), "cosine"), (vectors, "euclidean")):
        with pytest.raises(OodmlError):
            index_errors(other, tmp_path / "x.faiss", distance=distance)
    (tmp_path / "bad.faiss").write_bytes(b"bad")
    with pytest.raises(OodmlError):
        index_errors(vectors, tmp_path / "bad.faiss")


def test_the_command_names_the_share_of_the_index(tmp_path: Path) -> None:
    vectors = cloud()
    vectors.save(tmp_path / "v.npz")
    write_index(vectors, tmp_path / "x.faiss", kind="ivf", effort=1)
    arguments = ["evaluate", str(tmp_path / "v.npz"), "--index", str(tmp_path / "x.faiss")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "the index's" in result.output


def test_the_index_of_a_listed_gallery(tmp_path: Path) -> None:
    vectors = cloud()
    parts = np.where(np.arange(len(vectors)) % 7, "gallery", "query")
    listed = replace(vectors, partition=parts)
    gallery = listed.select(parts == "gallery")
    write_index(gallery, tmp_path / "x.faiss", kind="ivf", effort=1)
    table = index_errors(listed, tmp_path / "x.faiss", resamples=20)
    queries = vectors.select(parts == "query")
    expected = index_errors(queries, tmp_path / "x.faiss", gallery, resamples=20)
    assert table.to_dict("records") == expected.to_dict("records")
