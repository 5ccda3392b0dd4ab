import pytest
import torch
from pytorch_metric_learning.losses import ThresholdConsistentMarginLoss

import oodml
from tests.losses.loops import sample


def test_a_loop_over_pairs() -> None:
    x, y = sample()
    pulls, pushes = [], []
    for i in range(len(y)):
        for j in range(len(y)):
            cosine = float(x[i] @ x[j])
            if i != j and y[i] == y[j] and cosine <= 0.8:
                pulls.append(0.8 - cosine)
            if y[i] != y[j] and cosine >= 0.2:
                pushes.append(cosine - 0.2)
    options = {"positive_margin": 0.8, "negative_margin": 0.2, "negative_weight": 3.0}
    value = oodml.load("losses", "tcm", **options)(x, y)
    expected = sum(pulls) / len(pulls) + 3 * sum(pushes) / len(pushes)
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_equal_to_pytorch_metric_learning() -> None:
    x, y = sample(seed=3)
    theirs = ThresholdConsistentMarginLoss()(x, y)
    torch.testing.assert_close(oodml.load("losses", "tcm")(x, y), theirs, rtol=1e-6, atol=1e-9)
