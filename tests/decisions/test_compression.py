"""Codes against naive computations, faiss, and their own guarantees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from oodml.decisions.compression import (
    code_metrics,
    compress,
    precision_code,
    quantized_code,
    reduced_code,
)
from oodml.decisions.study import decision_metrics
from oodml.errors import OodmlError
from oodml.evaluate.query_lists import query_lists
from oodml.evaluate.retrieval import retrieval_metrics
from tests.decisions.samples import clusters


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def naive(queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Recall@1 and mAP@R by sorting the similarities of each query in a loop."""
    hits, precisions = [], []
    for row in range(len(queries)):
        others = np.delete(np.arange(len(labels)), row)
        order = others[np.argsort(-(unit(gallery)[others] @ queries[row]))]
        right = labels[order] == labels[row]
        r = right.sum()
        hits.append(right[0])
        precisions.append(sum(right[: i + 1].mean() for i in range(r) if right[i]) / r)
    return float(np.mean(hits)), float(np.mean(precisions))


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sample = clusters(classes=20, each=6, width=16, noise=1.2)
    fit = clusters(classes=60, each=6, width=16, seed=1)
    return unit(sample.vectors), unit(fit.vectors), sample.labels


def test_codes_equal_a_naive_search(sides: tuple[np.ndarray, ...]) -> None:
    rows, fit, labels = sides
    low, high = fit.min(0), fit.max(0)
    steps = np.round(np.clip((rows - low) / (high - low), 0, 1) * 255)
    values, axes = np.linalg.eigh(fit.T @ fit)
    axes = axes[:, np.argsort(-values)[:5]]
    expected = {
        reduced_code(5, "truncate", 16, 4): (unit(rows[:, :5]), rows[:, :5]),
        reduced_code(5, "pca", 16, 4): (unit(rows @ axes), rows @ axes),
        precision_code("float16", 16): (rows, rows.astype(np.float16).astype(np.float32)),
        precision_code("int8", 16): (rows, low + steps * (high - low) / 255),
    }
    for code, (queries, gallery) in expected.items():
        got = code_metrics(code, torch.from_numpy(rows), torch.from_numpy(fit), labels)
        recall, precision = naive(queries, gallery, labels)
        assert got["recall@1"].mean() == pytest.approx(recall), code.name
        assert got["map@r"].mean() == pytest.approx(precision, abs=1e-6), code.name


def test_binary_codes_rank_by_hamming_distance(sides: tuple[np.ndarray, ...]) -> None:
    rows, fit, labels = sides
    bits = rows > fit.mean(0)
    hamming = (bits[:, None] != bits[None]).sum(2).astype(float)
    np.fill_diagonal(hamming, np.inf)
    nearest = hamming == hamming.min(1, keepdims=True)
    expected = ((labels[:, None] == labels) & nearest).sum(1) / nearest.sum(1)
    got = [
        code_metrics(
            precision_code("binary", 16),
            torch.from_numpy(rows),
            torch.from_numpy(fit),
            labels,
            seed=seed,
        )["recall@1"]
        for seed in range(60)  # ties are broken at random
    ]
    assert np.mean(got) == pytest.approx(expected.mean(), abs=0.01)


def test_rescoring_all_neighbors_equals_int8_and_a_short_list_is_a_naive_one() -> None:
    sample, fit = clusters(12, 5, 16, 1.2), clusters(40, 6, 16, seed=1)
    table = compress(sample, fit, precision=["int8"], rescore=100, resamples=20).set_index("code")
    for metric in ("recall@1", "recall@8", "map@r"):
        values = table[metric]
        assert values["binary, rescored 100x"] == pytest.approx(values["int8"], abs=1e-6)
    binary = compress(sample, fit, precision=["binary"], rescore=2, resamples=20)
    recall = binary.set_index("code")["recall@8"]
    assert recall["binary"] - 0.02 <= recall["binary, rescored 2x"] <= 1


@pytest.mark.parametrize("rotate", [False, True])
def test_product_quantization_equals_a_faiss_search(
    sides: tuple[np.ndarray, ...], rotate: bool
) -> None:
    import faiss

    rows, fit, labels = sides
    got = code_metrics(
        quantized_code(4, rotate, 16), torch.from_numpy(rows), torch.from_numpy(fit), labels
    )
    index = faiss.index_factory(16, "OPQ4,PQ4" if rotate else "PQ4", faiss.METRIC_L2)
    inner = faiss.downcast_index(index.index) if rotate else index
    inner.do_polysemous_training, inner.pq.cp.min_points_per_centroid = False, 1
    index.train(fit)
    decoded = index.sa_decode(index.sa_encode(rows))
    assert got["recall@1"].mean() == pytest.approx(naive(rows, decoded, labels)[0], abs=0.06)


def test_the_table_compares_with_the_full_vectors() -> None:
    sample = clusters(classes=30, each=5, width=32, noise=1.5)
    table = compress(sample, dims=[8, 16], reduce="pca", resamples=200)
    assert table["bytes"].tolist() == [128, 32, 64, 64, 32, 4]
    assert table["recall@1_loss"].iloc[0] == 0
    assert (table["recall@1_low"] <= table["recall@1_loss"]).all()
    assert (table["recall@1_loss"] <= table["recall@1_high"]).all()
    assert table["recall@1_loss"].abs().iloc[3] < 0.02  # float16
    names = np.random.default_rng(0).permutation(np.array(sample.class_names))[15:]
    half = sample.subset(names)
    full = retrieval_metrics(half.vectors, half.classes)["recall@1"]
    assert table["recall@1"].iloc[0] == pytest.approx(full)


@pytest.mark.parametrize(
    "options",
    [{"dims": [17]}, {"pq": [5]}, {"precision": ["int4"]}, {"dims": [4], "reduce": "x"}],
)
def test_impossible_codes_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OodmlError):
        compress(clusters(width=16), **options)


def test_few_vectors_and_other_widths_are_refused() -> None:
    with pytest.raises(OodmlError) as caught:
        compress(clusters(width=16), pq=[4])
    assert caught.value.given == 24
    with pytest.raises(OodmlError):
        compress(clusters(width=16), clusters(width=8))


def test_the_interval_of_the_loss_covers_in_1000_draws() -> None:
    """Losses of 40 classes with a random effect each; the true mean loss is 0.1."""
    from oodml.evaluate.compare import compare_values

    generator, inside = np.random.default_rng(0), 0
    labels = np.arange(40).repeat(5)
    for seed in range(1000):
        loss = 0.1 + generator.normal(0, 0.2, 40)[labels] + generator.normal(0, 0.3, 200)
        one = compare_values("x", loss, np.zeros(200), labels, seed, 400)
        inside += one.low <= 0.1 <= one.high
    assert 0.92 <= inside / 1000 <= 0.98


def test_lists_of_queries_and_gallery_are_used() -> None:
    sample, fit = clusters(classes=10, each=8, width=16, seed=1), clusters(width=16, seed=2)
    parts = np.array(["query", "gallery", "both", "gallery"] * 20)
    listed = replace(sample, partition=parts)
    table = compress(listed, fit, precision=["int8", "binary"], rescore=100, resamples=20)
    values = table.set_index("code")["recall@1"]
    lists = query_lists(listed)
    assert lists is not None
    expected = retrieval_metrics(**lists.arguments(listed.vectors, listed.labels), ks=(1,))
    assert values["float32"] == pytest.approx(expected["recall@1"])
    assert values["binary, rescored 100x"] == pytest.approx(values["int8"], abs=1e-6)


def test_studies_measure_nothing_in_hyperbolic_space() -> None:
    assert decision_metrics(clusters(), clusters(seed=1), True, distance="poincare") == {}
    flat = decision_metrics(clusters(), clusters(seed=1), True, distance="euclidean")
    assert flat != decision_metrics(clusters(), clusters(seed=1), True)


def test_few_queries_or_classes_recommend_no_code() -> None:
    fit = clusters(10, 6, 16, seed=1)
    for classes, each, codes in ((30, 11, ["binary"]), (30, 9, []), (9, 40, [])):
        table = compress(clusters(classes, each, 16, 0.1), fit, resamples=50)
        assert (table["queries"] == classes * each).all()
        assert (table["classes"] == classes).all()
        assert table["code"][table["recommended"]].tolist() == codes
    hard = compress(clusters(30, 11, 16, 2.0), fit, precision=["binary"], resamples=50)
    assert not hard["recommended"].any()
