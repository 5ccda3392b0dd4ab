from math import nan

import numpy as np
import pytest
import torch

import oodml
from oodml.errors import OodmlError
from oodml.evaluate.evaluation import evaluate_vectors
from oodml.evaluate.registry import check_bounds, find_metric, registered_metrics, sort_metrics
from oodml.evaluate.retrieval import RETRIEVAL, RankedPositives, chance_metrics
from oodml.results import metrics


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    """A new metric: one decorated function, and nothing else."""
    monkeypatch.setattr(metrics, "_REGISTRY", dict(metrics._REGISTRY))
    monkeypatch.setattr(RETRIEVAL, "definitions", dict(RETRIEVAL.definitions))

    def expected(counts: np.ndarray, size: int, k: int) -> np.ndarray:
        return counts * k / size

    @RETRIEVAL.define("hits@k", "Hits@k", bounds=(0, 100), expected=expected)
    def hits(positives: RankedPositives, k: int) -> torch.Tensor:
        return positives.count_within(k)

    return "hits@4"


def test_a_new_metric_needs_one_function(toy: str) -> None:
    labels = np.repeat(np.arange(5), 8)
    vectors = np.eye(5)[labels] + 0.01 * np.random.default_rng(0).standard_normal((40, 5))
    vectors = vectors.astype(np.float32)
    assert oodml.retrieval_metrics(vectors, labels)[toy] == 4
    assert chance_metrics(np.full(40, 7.0), 39)[toy] == pytest.approx(7 * 4 / 39)
    names = labels.astype(np.str_)
    result = evaluate_vectors(oodml.VectorSet(vectors, names, np.arange(40).astype(np.str_)))
    assert result.metrics[toy] == 4
    assert result.chance[toy] == pytest.approx(7 * 4 / 39)
    assert (result.per_class[toy] == 4).all()
    assert find_metric(toy).label == "Hits@4"
    assert find_metric(toy).is_quality
    assert find_metric(toy).chance == "random ranking"
    assert sort_metrics(["nmi", toy, "mrr"]) == ["mrr", toy, "nmi"]
    assert oodml.compare(vectors, vectors, labels, metrics=[toy])[0].a == 4


def test_every_computed_metric_is_registered_and_within_its_bounds() -> None:
    generator = np.random.default_rng(0)
    vectors, labels = generator.standard_normal((60, 6)), np.arange(60) % 9
    values = oodml.retrieval_metrics(vectors, labels) | oodml.clustering_metrics(vectors, labels)
    values |= oodml.structure_metrics(vectors, labels)
    for name, value in values.items():
        metric = find_metric(name)
        assert metric.family != "other", name
        assert "@k" not in metric.label
        assert check_bounds(name, value) is value


def test_names_with_numbers_and_published_variants() -> None:
    assert find_metric("recall@10").label == "Recall@10"
    assert find_metric("map@1000").label == "mAP@1000"
    assert find_metric("rho@-1").label == "Spectral decay ρ@-1"
    assert find_metric("recall@10_published").label == "Recall@10 (as published)"
    assert find_metric("map@c_published").published
    assert find_metric("map@c_published").is_quality
    assert find_metric("queries").family == "count"
    unregistered = find_metric("my metric@x")
    assert (unregistered.label, unregistered.family) == ("my metric@x", "other")
    assert not unregistered.is_quality
    assert check_bounds("my metric", 1e9) == 1e9


def test_order_of_display() -> None:
    shown = ["recall@1", "recall@2", "recall@10", "precision@1", "r_precision", "map@r"]
    shown += ["map@1000", "map", "mrr", "nmi", "ami", "f1", "intra", "inter", "rho@1", "opis"]
    shown += ["mine", "queries", "recall@1_published", "map_published"]
    shuffled = np.random.default_rng(0).permutation(shown).tolist()
    assert sort_metrics(shuffled) == shown
    names = [metric.name for metric in registered_metrics()]
    assert len(set(names)) == len(names)


def test_values_outside_the_bounds_are_errors() -> None:
    assert check_bounds("recall@1", 1 + 1e-9) > 1
    assert np.isnan(check_bounds("map", nan))
    for name, value in (("map", 5.0), ("ami", -1.5), ("density", -1.33)):
        with pytest.raises(OodmlError) as caught:
            check_bounds(name, value)
        assert caught.value.location == name
        assert caught.value.given == value
