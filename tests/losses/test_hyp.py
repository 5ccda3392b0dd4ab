import math

import numpy as np
import pytest
import torch

import oodml
from oodml.losses._base import ball_distances, to_ball
from tests.losses.loops import sample

C, CLIP, TAU = 0.3, 1.5, 0.4


def ball_point(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x)
    x = x * min(1, CLIP / length)
    length = np.linalg.norm(x)
    return np.tanh(math.sqrt(C) * length) * x / (math.sqrt(C) * length)


def gyro_distance(x: np.ndarray, y: np.ndarray) -> float:
    """2/√c · artanh(√c ‖(-x) ⊕ y‖) with Möbius addition, as in the paper."""
    x = -x
    xy, xx, yy = x @ y, x @ x, y @ y
    added = (1 + 2 * C * xy + C * yy) * x + (1 - C * xx) * y
    added = added / (1 + 2 * C * xy + C**2 * xx * yy)
    return 2 / math.sqrt(C) * math.atanh(math.sqrt(C) * np.linalg.norm(added))


def test_points_and_distances_are_those_of_gyrovector_arithmetic() -> None:
    x, _ = sample(unit=False)
    points = to_ball(x, C, CLIP)
    expected = [ball_point(row) for row in x.numpy()]
    np.testing.assert_allclose(points, expected, atol=1e-9)
    distances = ball_distances(points, points, C)
    for i, j in ((0, 1), (2, 7), (9, 3)):
        assert distances[i, j].item() == pytest.approx(gyro_distance(expected[i], expected[j]))


def test_a_loop_over_anchors_and_positives() -> None:
    x, y = sample(unit=False)
    points = [ball_point(row) for row in x.numpy()]
    terms = []
    for i in range(len(y)):
        others = [k for k in range(len(y)) if k != i]
        scores = {k: math.exp(-gyro_distance(points[i], points[k]) / TAU) for k in others}
        parts = [-math.log(scores[j] / sum(scores.values())) for j in others if y[j] == y[i]]
        if parts:
            terms.append(sum(parts) / len(parts))
    value = oodml.load("losses", "hyp", temperature=TAU, curvature=C, clip=CLIP)(x, y)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)


def test_long_embeddings_stay_inside_the_ball() -> None:
    x = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    distance = ball_distances(to_ball(x, 1.0, None), to_ball(x, 1.0, None), 1.0)[0, 1]
    distance.backward()
    assert distance.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()
