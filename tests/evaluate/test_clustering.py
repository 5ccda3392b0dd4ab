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
def test_agreement_equals_scikit_learn(seed: int, n: int, clusters: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(clusters, size=n), generator.integers(classes, size=n)
    ours = cluster_agreement(a, b)
    assert ours["nmi"] == pytest.approx(normalized_mutual_info_score(b, a), abs=1e-9)
    assert ours["ami"] == pytest.approx(adjusted_mutual_info_score(b, a), abs=1e-7)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    retrieved = sum(a[i] == a[j] for i, j in pairs)
    relevant = sum(b[i] == b[j] for i, j in pairs)
    both = sum(a[i] == a[j] and b[i] == b[j] for i, j in pairs)
    if retrieved + relevant:
        assert ours["f1"] == pytest.approx(2 * both / (retrieved + relevant))


@pytest.mark.parametrize("kind", ["raw", "norm", "n1641"])
def test_reference_values_of_the_stored_assignment(reference: Path, kind: str) -> None:
    stored = json.loads((reference / "metrics.json").read_text())[kind]
    file = "metrics_1500.npz" if kind == "n1641" else "metrics_600.npz"
    with np.load(reference / file) as arrays:
        assignment = arrays["assign" if kind == "n1641" else f"{kind}_assign"]
        ours = oodml.clustering_metrics(arrays["x"], arrays["y"], assignment=assignment)
    assert ours["nmi"] == pytest.approx(stored["nmi"], abs=1e-9)
    assert ours["f1"] == pytest.approx(stored["f1"], abs=1e-9)


def test_kmeans_depends_on_the_seed_but_not_on_threads() -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((600, 16)).astype(np.float32)
    threads = faiss.omp_get_max_threads()
    try:
        clusters = []
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            clusters.append(kmeans(rows, 12, seed=3))
    finally:
        faiss.omp_set_num_threads(threads)
    assert (clusters[0] == clusters[1]).all()
    assert (kmeans(rows, 12, seed=4) != clusters[0]).any()


def test_the_best_restart_counts() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 25
    rows = generator.standard_normal((25, 8))[labels] + 0.05 * generator.standard_normal((400, 8))
    one = oodml.clustering_metrics(rows, labels, restarts=1)
    several = oodml.clustering_metrics(rows, labels, restarts=20)
    assert several["nmi"] > one["nmi"]


def test_perfect_clusters_score_one() -> None:
    labels = np.repeat(["a", "b", "c"], 10)
    ours = oodml.clustering_metrics(np.ones((30, 2)), labels, assignment=labels)
    assert ours == pytest.approx({"nmi": 1, "ami": 1, "f1": 1})


def test_bad_input_is_refused() -> None:
    with pytest.raises(OodmlError, match="assignment"):
        oodml.clustering_metrics(np.ones((4, 2)), [0, 0, 1, 1], assignment=[0, 1])
    with pytest.raises(OodmlError, match="restarts"):
        oodml.clustering_metrics(np.ones((4, 2)), [0, 0, 1, 1], restarts=0)
