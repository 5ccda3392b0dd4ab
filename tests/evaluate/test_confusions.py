from collections import Counter

import numpy as np
import pytest

from oodml.evaluate.confusions import confusions
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.vectors import VectorSet


def _vectors(partition: np.ndarray | None = None) -> VectorSet:
    generator = np.random.default_rng(0)
    classes = [*np.repeat([f"c{i}" for i in range(8)], 5).tolist(), "single"]
    rows = 0.4 * generator.normal(size=(41, 6))
    rows /= 1 + np.linalg.norm(rows, axis=1, keepdims=True)
    ids = np.array([f"i{i}" for i in range(41)])
    return VectorSet(
        rows, np.array(classes), ids, superclasses=np.array([c[0] for c in classes]),
        partition=partition,
    )  # fmt: skip


def _distances(rows: np.ndarray, distance: str) -> np.ndarray:
    if distance == "cosine":
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return -unit @ unit.T
    squares = ((rows[:, None] - rows[None]) ** 2).sum(2)
    if distance == "euclidean":
        return squares
    gap = 1 - (rows**2).sum(1)
    return np.arccosh(1 + 2 * squares / (gap[:, None] * gap[None]))


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "poincare"])
@pytest.mark.parametrize("listed", [False, True])
def test_equals_a_naive_loop(distance: str, listed: bool) -> None:
    parts = np.array([["query", "gallery"][i % 2] for i in range(41)]) if listed else None
    vectors = _vectors(parts)
    far = _distances(vectors.vectors, distance)
    expected: Counter[tuple[str, str]] = Counter()
    for i in range(41):
        others = [j for j in range(41) if j != i and (not listed or j % 2)]
        if (listed and i % 2) or vectors.classes[i] not in vectors.classes[others]:
            continue
        nearest = min(others, key=lambda j: far[i, j])
        expected[vectors.classes[i], vectors.classes[nearest]] += 1
    table = confusions(vectors, distance)
    counted = table.set_index(["class", "other"])["count"].to_dict()
    assert counted == dict(expected)
    rows = {name: row for row, name in enumerate(vectors.ids.tolist())}
    for row in table.to_dict("records"):
        assert vectors.classes[rows[row["query"]]] == row["class"]
        assert vectors.classes[rows[row["neighbor"]]] == row["other"]
        assert row["superclass"] == "c"


def test_the_share_of_correct_pairs_is_recall() -> None:
    vectors = _vectors()
    table = confusions(vectors)
    share = table.loc[table["class"] == table["other"], "count"].sum() / table["count"].sum()
    expected = retrieval_metrics(vectors.vectors, vectors.classes, ks=(1,))["recall@1"]
    assert share == pytest.approx(expected)
