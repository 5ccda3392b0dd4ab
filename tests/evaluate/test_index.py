from pathlib import Path

import faiss
import numpy as np
import pytest

import oodml
from oodml.errors import OodmlError
from oodml.evaluate.index import write_index


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
