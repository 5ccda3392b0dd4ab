"""Signals of queries that need no labels, compared with a naive computation."""

import numpy as np
import pytest

from oodml.evaluate.signals import query_signals, signal_names


def test_the_nearest_image_and_its_similarity() -> None:
    views = [np.random.default_rng(seed).normal(size=(20, 6)) for seed in range(3)]
    signals = query_signals(views)
    units = [view / np.linalg.norm(view, axis=1, keepdims=True) for view in views]
    similarity = units[0] @ units[0].T - 2 * np.eye(20)
    assert signals.neighbors.tolist() == similarity.argmax(axis=1).tolist()
    assert signals.values[:, 0] == pytest.approx(similarity.max(axis=1), abs=1e-6)
    own = np.mean([(view * units[0]).sum(1) for view in units[1:]], axis=0)
    column = signal_names(2).index("similarity of own view")
    assert signals.values[:, column] == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("view", [0, 1, 2])
def test_signals_of_zero_vectors_are_finite(view: int) -> None:
    views = [np.random.default_rng(seed).normal(size=(20, 6)) for seed in range(3)]
    views[view][4] = 0
    assert np.isfinite(query_signals(views).values).all()
