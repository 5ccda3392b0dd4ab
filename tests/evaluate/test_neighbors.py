import numpy as np
import pytest

from oodml.evaluate.neighbors import nearest_neighbors


@pytest.mark.parametrize("k", [1, 5])
def test_nearest_by_cosine_without_the_query(k: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    rows = nearest_neighbors(vectors, np.array([3, 7]), k)
    for query, row in zip((3, 7), rows, strict=True):
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vectors[query])
        cosine = vectors @ vectors[query] / lengths
        others = sorted((i for i in range(40) if i != query), key=lambda i: -cosine[i])
        assert row.tolist() == others[:k]


def test_no_more_neighbors_than_there_are() -> None:
    assert nearest_neighbors(np.eye(4, dtype=np.float32), np.array([0]), 9).shape == (1, 3)
