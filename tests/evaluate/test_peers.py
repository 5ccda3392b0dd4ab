"""Agreement with other libraries, if installed, on metrics with the same definition."""

import numpy as np
import pytest
import torch

import oodml

from .test_retrieval import sample


def test_torchmetrics_agrees_on_positive_scores() -> None:
    """Its retrieval metrics drop hits that score 0 or less, so the scores are shifted."""
    torchmetrics = pytest.importorskip("torchmetrics.functional.retrieval")
    vectors, labels = sample(5, 120, 8, 12)
    ours = oodml.retrieval_metrics(vectors, labels, ks=(1, 5), per_query=False)
    unit = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1)
    theirs: dict[str, list[float]] = {"map": [], "precision@5": [], "mrr": [], "r_precision": []}
    for query, label in enumerate(labels):
        others = np.arange(len(labels)) != query
        scores, target = (unit[others] @ unit[query]) + 2, torch.from_numpy(labels[others] == label)
        if target.any():
            theirs["map"].append(float(torchmetrics.retrieval_average_precision(scores, target)))
            precision = torchmetrics.retrieval_precision(scores, target, top_k=5)
            theirs["precision@5"].append(float(precision))
            theirs["mrr"].append(float(torchmetrics.retrieval_reciprocal_rank(scores, target)))
            share = torchmetrics.retrieval_r_precision(scores, target)
            theirs["r_precision"].append(float(share))
    for name, values in theirs.items():
        if name in ours:
            assert ours[name] == pytest.approx(np.mean(values), abs=1e-6), name
    assert {"map", "mrr", "r_precision"} <= set(ours)


def test_open_metric_learning_agrees() -> None:
    """Its precision@k and map@k have other denominators for k > 1, so cmc is compared."""
    knn = pytest.importorskip("oml.functional.knn")
    metrics = pytest.importorskip("oml.functional.metrics")
    vectors, labels = sample(6, 150, 8, 12)
    rows, every = torch.from_numpy(vectors), torch.arange(len(labels))
    _, neighbors, relevant = knn.batched_knn(
        rows, every, every, len(labels) - 1, labels_gt=torch.from_numpy(labels)
    )
    scored = [index for index, gallery in enumerate(relevant) if len(gallery)]
    theirs = metrics.calc_retrieval_metrics(
        [neighbors[index] for index in scored], [relevant[index] for index in scored], None,
        (1, 2, 10), (1,), (), verbose=False,
    )  # fmt: skip
    ours = oodml.retrieval_metrics(vectors, labels, ks=(1, 2, 10), distance="euclidean")
    for k in (1, 2, 10):
        assert ours[f"recall@{k}"] == pytest.approx(float(theirs["cmc"][k]), abs=1e-6)
    assert ours["precision@1"] == pytest.approx(float(theirs["precision"][1]), abs=1e-6)
