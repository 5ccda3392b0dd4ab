import numpy as np
import pytest

from oodml.analysis.chance import chance_level, chance_recall
from oodml.errors import OodmlError


@pytest.mark.parametrize("k", [1, 3, 50])
def test_chance_recall_by_drawing(k: int) -> None:
    sizes = [5, 2, 9, 1]
    labels = np.repeat(np.arange(4), sizes)
    generator = np.random.default_rng(k)
    hits = []
    for _ in range(400):
        for query in np.flatnonzero(labels != 3):
            others = np.delete(labels, query)
            hits.append(labels[query] in generator.permutation(others)[:k])
    assert chance_recall(sizes, k) == pytest.approx(np.mean(hits), abs=0.02)


def test_only_recall_has_a_chance_level() -> None:
    assert chance_level("precision@1", [4, 4]) == chance_level("recall@1", [4, 4])
    assert chance_level("map@r", [4, 4]) is None


def test_singletons_alone_are_an_error() -> None:
    with pytest.raises(OodmlError, match="no class has two images"):
        chance_recall([1, 1])
