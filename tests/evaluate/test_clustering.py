import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

import oodml
from oodml.errors import OodmlError
from oodml.evaluate.clustering import cluster_agreement, kmeans


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 80),
    clusters=st.integers(1, 12),
    classes=st.integers(1, 12),
)
def test_agreement_is_scikit_learns(seed: int, n: int, clusters: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(clusters, size=n), generator.integers(classes, size=n)
    found = cluster_agreement(a, b)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(b, a), abs=1e-9)
    assert found["ami"] == pytest.approx(adjusted_mutual_info_score(b, a), abs=1e-7)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    together = sum(a[i] == a[j] for i, j in pairs)
    wanted = sum(b[i] == b[j] for i, j in pairs)
    right = sum(a[i] == a[j] and b[i] == b[j] for i, j in pairs)
    if together + wanted:
        assert found["f1"] == pytest.approx(2 * right / (together + wanted))


@pytest.mark.parametrize("kind", ["raw", "norm", "n1641"])
def test_reference_values_of_the_stored_assignment(reference: Path, kind: str) -> None:
    stored = json.loads((reference / "metrics.json").read_text())[kind]
    file = "metrics_1500.npz" if kind == "n1641" else "metrics_600.npz"
    with np.load(reference / file) as arrays:
        assignment = arrays["assign" if kind == "n1641" else f"{kind}_assign"]
        found = oodml.clustering_metrics(arrays["x"], arrays["y"], assignment=assignment)
    assert found["nmi"] == pytest.approx(stored["nmi"], abs=1e-9)
    assert found["f1"] == pytest.approx(stored["f1"], abs=1e-9)


def test_kmeans_is_the_seed_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((600, 16)).astype(np.float32)
    threads = faiss.omp_get_max_threads()
    try:
        found = []
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            found.append(kmeans(rows, 12, seed=3))
    finally:
        faiss.omp_set_num_threads(threads)
    assert (found[0] == found[1]).all()
    assert (kmeans(rows, 12, seed=4) != found[0]).any()


def test_restarts_keep_the_best() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 25
    rows = generator.standard_normal((25, 8))[labels] + 0.05 * generator.standard_normal((400, 8))
    one = oodml.clustering_metrics(rows, labels, restarts=1)
    many = oodml.clustering_metrics(rows, labels, restarts=20)
    assert many["nmi"] > one["nmi"]


def test_perfect_clusters_score_one() -> None:
    labels = np.repeat(["a", "b", "c"], 10)
    found = oodml.clustering_metrics(np.ones((30, 2)), labels, assignment=labels)
    assert found == pytest.approx({"nmi": 1, "ami": 1, "f1": 1})


def test_bad_input_is_refused() -> None:
    with pytest.raises(OodmlError, match=r"assignment must be \[4\]"):
        oodml.clustering_metrics(np.ones((4, 2)), [0, 0, 1, 1], assignment=[0, 1])
    with pytest.raises(OodmlError, match="restarts: 0"):
        oodml.clustering_metrics(np.ones((4, 2)), [0, 0, 1, 1], restarts=0)
