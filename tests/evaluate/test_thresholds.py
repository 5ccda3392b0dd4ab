import numpy as np
import pytest
import torch

from oodml.errors import OodmlError
from oodml.evaluate.structure import BINS, operating_point_inconsistency


def naive(unit: np.ndarray, labels: np.ndarray, low: float, high: float) -> float:
    """Loop over every threshold with the full matrix."""
    scores = np.floor((unit @ unit.T + 1) * BINS / 2)
    apart = ~np.eye(len(unit), dtype=bool)
    same = labels[:, None] == labels
    variances = []
    for step in range(BINS):
        accepted = scores >= step
        rate = accepted[~same].mean()
        if not low <= rate <= high:
            continue
        utilities = []
        for name in np.unique(labels):
            of_class = labels[:, None] == name
            hits = accepted[of_class & same & apart].mean()
            rejections = 1 - accepted[of_class & ~same].mean()
            utilities.append(2 * hits * rejections / (hits + rejections))
        variances.append(np.var(utilities))
    return float(np.mean(variances))


def sample(n: int = 280) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 7
    spread = np.linspace(0.2, 1.5, 7)[labels, None]
    rows = generator.standard_normal((7, 6))[labels] + spread * generator.standard_normal((n, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


@pytest.mark.parametrize("rates", [(0.01, 0.1), (0.1, 0.5)])
def test_agrees_with_the_naive_loop(rates: tuple[float, float]) -> None:
    unit, labels = sample()
    score = operating_point_inconsistency(torch.from_numpy(unit), torch.from_numpy(labels), rates)
    assert score == pytest.approx(naive(unit, labels, *rates), abs=1e-9)


def test_similar_classes_are_consistent() -> None:
    """Four classes on the four half-axes, all equally wide."""
    angles = np.concatenate([np.linspace(-0.3, 0.3, 9) + np.pi / 2 * i for i in range(4)])
    unit = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1)).double()
    labels = torch.arange(4).repeat_interleave(9)
    assert operating_point_inconsistency(unit, labels) == pytest.approx(0, abs=1e-4)


def test_bad_rates_are_refused() -> None:
    with pytest.raises(OodmlError, match="false_accept_rates"):
        operating_point_inconsistency(torch.eye(3), torch.arange(3), (0.5, 0.1))
