import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oodml
from oodml.errors import OodmlError
from oodml.evaluate.registry import find_metric
from oodml.evaluate.retrieval import chance_metrics, metrics_per_class

from .naive import naive_metrics


def sample(seed: int, n: int = 60, d: int = 6, n_classes: int = 9, spread: float = 1.0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(n_classes, size=n)
    labels[:2] = 0
    centers = generator.standard_normal((n_classes, d))
    return generator.standard_normal((n, d)) * spread + centers[labels], labels


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(3, 90),
    n_classes=st.integers(1, 40),
    distance=st.sampled_from(["cosine", "euclidean", "poincare"]),
)
def test_agrees_with_the_naive_loop(seed: int, n: int, n_classes: int, distance: str) -> None:
    vectors, labels = sample(seed, n, n_classes=n_classes)
    vectors = vectors / 20 if distance == "poincare" else vectors
    ours = oodml.retrieval_metrics(vectors, labels, distance=distance)
    assert ours == pytest.approx(naive_metrics(vectors, labels, distance=distance), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 120),
    distance=st.sampled_from(["cosine", "euclidean", "poincare"]),
)
def test_query_and_gallery_agree_with_the_naive_loop(seed: int, m: int, distance: str) -> None:
    vectors, labels = sample(seed, 30, n_classes=5)
    gallery, names = sample(seed + 1, m + 2, n_classes=12)  # classes 5 to 11 are distractors
    if distance == "poincare":
        vectors, gallery = vectors / 20, gallery / 20
    ours = oodml.retrieval_metrics(
        vectors, labels, gallery=gallery, gallery_labels=names, distance=distance
    )
    theirs = naive_metrics(
        vectors, labels, gallery=gallery, gallery_labels=names, distance=distance
    )
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("n_classes", [3, 700])
def test_many_tiles_and_many_positives(n_classes: int) -> None:
    """More rows than a tile is wide, and more positives than are compared one by one."""
    vectors, labels = sample(1, 1200, 8, n_classes, spread=2.0)
    ours = oodml.retrieval_metrics(vectors, labels)
    assert ours == pytest.approx(naive_metrics(vectors, labels), abs=1e-6)


def test_float32_ranks_use_each_product_once() -> None:
    vectors, labels = sample(2, 1100, 32, 30)
    ours = oodml.retrieval_metrics(vectors.astype(np.float32), labels)
    theirs = naive_metrics(vectors.astype(np.float32), labels)
    assert ours == pytest.approx(theirs, abs=2e-4)
    assert ours["map"] == pytest.approx(theirs["map"], abs=1e-6)


def test_reference_values(reference: Path) -> None:
    stored = json.loads((reference / "metrics.json").read_text())
    with np.load(reference / "metrics_1500.npz") as arrays:
        vectors, labels = arrays["x"], arrays["y"]
    ours = oodml.retrieval_metrics(vectors, labels, ks=(1, 2, 4, 8, 10), distance="euclidean")
    for k in (1, 2, 4, 8, 10):
        assert ours[f"recall@{k}_published"] == pytest.approx(stored["n1641"][f"e_recall@{k}"])
    assert ours["map@1000_published"] == pytest.approx(stored["n1641"]["mAP_1000"], abs=1e-9)
    assert ours["map@c_published"] == pytest.approx(stored["n1641"]["mAP_c"], abs=1e-9)


@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_reference_values_with_a_singleton(reference: Path, kind: str) -> None:
    stored = json.loads((reference / "metrics.json").read_text())
    with np.load(reference / "metrics_600.npz") as arrays:
        vectors, labels = arrays["x"], arrays["y"]
    distance = "euclidean" if kind == "raw" else "cosine"
    ours = oodml.retrieval_metrics(vectors, labels, ks=(1, 2, 4, 8, 10), distance=distance)
    assert (ours["queries"], ours["singletons"]) == (599, 1)
    for k in (1, 2, 4, 8, 10):
        assert ours[f"recall@{k}_published"] == pytest.approx(stored[kind][f"e_recall@{k}"])
    assert ours["map@c_published"] == pytest.approx(stored[kind]["mAP_c"], abs=1e-9)
    # The original pads each result by one image of the last sample's class, at rank 600.
    padding = stored["last_sample_class_size"] / 600 / 600
    assert ours["map_published"] + padding == pytest.approx(stored[kind]["mAP"], abs=1e-6)
    if kind == "norm":
        brute, peer = stored["bruteforce_norm"], stored["pml_norm"]
        assert ours["map"] == pytest.approx(brute["mAP_standard(freq-1, singleton dropped)"])
        assert ours["map@r"] == pytest.approx(peer["mean_average_precision_at_r"], abs=1e-9)
        assert ours["r_precision"] == pytest.approx(peer["r_precision"], abs=1e-9)
        assert ours["precision@1"] == pytest.approx(peer["precision_at_1"], abs=1e-9)


def test_pytorch_metric_learning_agrees() -> None:
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    vectors, labels = sample(3, 400, 12, 25)
    names = ("mean_average_precision_at_r", "r_precision", "precision_at_1", "mean_reciprocal_rank")
    names += ("mean_average_precision",)
    calculator = AccuracyCalculator(
        include=names,
        k=len(labels) - 1,
        knn_func=CustomKNN(LpDistance(normalize_embeddings=False)),
        device=torch.device("cpu"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = calculator.get_accuracy(torch.from_numpy(vectors), torch.from_numpy(labels))
    ours = oodml.retrieval_metrics(vectors, labels, distance="euclidean")
    twins = ("map@r", "r_precision", "precision@1", "mrr", "map")
    for our_name, their_name in zip(twins, names, strict=True):
        assert ours[our_name] == pytest.approx(theirs[their_name], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-20, 0.1, 3.0, 1e15]))
def test_nothing_changes_by_shuffling_rotating_and_scaling(seed: int, scale: float) -> None:
    vectors, labels = sample(seed)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    rotation = np.linalg.qr(generator.standard_normal((6, 6)))[0]
    moved = scale * (vectors @ rotation)[order]
    expected = oodml.retrieval_metrics(vectors, labels)
    assert oodml.retrieval_metrics(moved, labels[order]) == pytest.approx(expected, abs=1e-9)


def test_perfect_vectors_have_the_best_value() -> None:
    labels = np.repeat(np.arange(12), 9)
    vectors = np.eye(12)[labels] + 1e-3 * np.random.default_rng(0).standard_normal((108, 12))
    ours = oodml.retrieval_metrics(vectors, labels)
    for name, value in ours.items():
        metric = find_metric(name)
        if metric.is_quality and not metric.published and metric.higher_is_better:
            assert value == metric.bounds[1], name
    assert ours["map@1000_published"] == pytest.approx(8 / 9)


@pytest.mark.parametrize("kind", ["equal", "random", "two points"])
def test_vectors_without_information_score_chance(kind: str) -> None:
    labels = np.repeat(np.arange(40), 12)
    n = len(labels)
    generator = np.random.default_rng(0)
    vectors = {
        "equal": np.ones((n, 3)),
        "random": generator.standard_normal((n, 48)),
        "two points": np.eye(2)[generator.integers(2, size=n)],
    }[kind]
    values = oodml.retrieval_metrics(vectors, labels, per_query=True)
    expected = chance_metrics(values["positives"], n - 1)
    for name in ("recall@1", "recall@8", "precision@4", "map@r", "map", "mrr", "r_precision"):
        # Random vectors are neighbors of each other, so the queries of a class are dependent.
        classes = metrics_per_class(values, labels)[1][name]
        error = classes.std(ddof=1) / np.sqrt(len(classes))
        assert abs(values[name].mean() - expected[name]) < 3 * error, name


def test_ties_are_drawn_from_the_seed() -> None:
    vectors, labels = np.ones((60, 2)), np.repeat(np.arange(6), 10)
    first, again, other = (oodml.retrieval_metrics(vectors, labels, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_a_query_never_matches_itself_or_wins_a_tie_with_its_duplicate() -> None:
    """Fifty points twice, one pair of a class and all others alone: recall must be 0."""
    half = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    vectors, labels = np.concatenate([half, half]), np.arange(100)
    labels[1] = 0
    ours = oodml.retrieval_metrics(vectors, labels)
    assert ours["recall@1"] == 0
    assert ours["queries"] == 2


def test_duplicates_tie_exactly() -> None:
    """A positive and its copy in another class each come first for half of the queries."""
    generator = np.random.default_rng(1)
    half = generator.standard_normal((1500, 24)).astype(np.float32)
    vectors = np.concatenate([half, half])
    labels = np.concatenate([np.arange(1500) // 2, 10_000 + np.arange(1500)])
    values = oodml.retrieval_metrics(vectors, labels, per_query=True)
    ranks = np.rint(1 / values["mrr"][:1500])
    # The query's copy comes first; the positive and its copy follow at equal distance.
    assert (ranks >= 2).all()
    odd = ((ranks - 2) % 2 == 1).mean()
    assert abs(odd - 0.5) < 4 * 0.5 / np.sqrt(1500)


@pytest.mark.parametrize(
    "rename",
    [
        lambda labels: [f"class {label}" for label in labels],
        lambda labels: labels + 2**53,
        lambda labels: labels.astype(np.uint64) + np.uint64(2**63),
        lambda labels: torch.from_numpy(labels + 2**24),
        lambda labels: -labels,
        lambda labels: np.array([f"c{label}" for label in labels], dtype=object),
    ],
)
def test_any_labels(rename) -> None:
    vectors, labels = sample(5, n_classes=20)
    expected = oodml.retrieval_metrics(vectors, labels)
    assert oodml.retrieval_metrics(torch.from_numpy(vectors), rename(labels)) == expected


def test_large_labels_of_two_types_do_not_merge() -> None:
    queries = np.array([2**53 + 1, 2**53], dtype=np.int64)
    gallery = np.array([2**53, 2**53 + 1], dtype=np.uint64)
    ours = oodml.retrieval_metrics(np.eye(2), queries, gallery=np.eye(2), gallery_labels=gallery)
    assert ours["mrr"] == 0.5


def test_relevance_by_superclass() -> None:
    vectors, labels = sample(6, n_classes=12)
    groups = labels // 4
    expected = naive_metrics(vectors, groups)
    by_map = {label: label // 4 for label in range(12)}
    for relevance in (groups, by_map):
        ours = oodml.retrieval_metrics(vectors, labels, relevance=relevance)
        assert ours == pytest.approx(expected, abs=1e-9)
    across = oodml.retrieval_metrics(
        vectors[:20],
        labels[:20],
        gallery=vectors[20:],
        gallery_labels=labels[20:],
        relevance=by_map,
    )
    pairs = oodml.retrieval_metrics(
        vectors[:20],
        labels[:20],
        gallery=vectors[20:],
        gallery_labels=labels[20:],
        relevance=groups[:20],
        gallery_relevance=groups[20:],
    )
    assert across == pairs
    naive = naive_metrics(vectors[:20], groups[:20], (1, 2, 4, 8), vectors[20:], groups[20:])
    assert across == pytest.approx(naive, abs=1e-9)


def test_per_query_per_class_and_averages() -> None:
    vectors, labels = sample(7, n_classes=25)
    labels[5] = 99
    values = oodml.retrieval_metrics(vectors, labels, per_query=True)
    assert np.isnan(values["recall@1"][5])
    assert values["recall@1_published"][5] == 0
    micro = oodml.retrieval_metrics(vectors, labels)
    macro = oodml.retrieval_metrics(vectors, labels, average="macro")
    names, classes = metrics_per_class(values, labels)
    assert names.tolist() == sorted(set(labels.tolist()))
    for key in ("recall@1", "map@r", "mrr"):
        assert micro[key] == pytest.approx(np.nanmean(values[key]))
        means = [values[key][labels == name] for name in names]
        loop = [float(np.nanmean(part)) for part in means if not np.isnan(part).all()]
        assert macro[key] == pytest.approx(np.mean(loop))
        assert np.nanmean(classes[key]) == pytest.approx(np.mean(loop))


def test_inputs_are_not_modified() -> None:
    vectors, labels = sample(8)
    original = vectors.copy()
    oodml.retrieval_metrics(vectors, labels, distance="euclidean")
    oodml.retrieval_metrics(torch.from_numpy(vectors), labels)
    assert (vectors == original).all()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"labels": [0, 0, 1]}, "labels"),
        ({"labels": [0.5, 0.5, 1.0, 1.0]}, "float64"),
        ({"labels": [0, 1, 2, 3]}, "positive"),
        ({"vectors": np.zeros((4, 2))}, "row 0"),
        ({"vectors": np.array([[1, 1], [1, 1], [1, 1], [1, np.nan]])}, "row 3"),
        ({"vectors": np.zeros((0, 2)), "labels": []}, "vectors"),
        ({"ks": (0,)}, "ks"),
        ({"distance": "cosin"}, "cosin"),
        ({"distance": "poincare"}, "row 0"),
        ({"average": "mean"}, "average"),
        ({"gallery": np.ones((2, 2))}, "gallery_labels"),
        ({"gallery": np.ones((2, 3)), "gallery_labels": [0, 0]}, "gallery"),
        ({"gallery": np.ones((2, 2)), "gallery_labels": ["a", "b"]}, "int64"),
        ({"relevance": {0: 0}}, "relevance"),
    ],
)
def test_bad_input_is_refused(change: dict, word: str) -> None:
    given = {"vectors": np.ones((4, 2)), "labels": [0, 0, 1, 1]} | change
    with pytest.raises(OodmlError, match=word):
        oodml.retrieval_metrics(given.pop("vectors"), given.pop("labels"), **given)
