import math

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss

import oodml
from tests.losses.loops import sample


def test_a_loop_over_anchors_and_positives() -> None:
    x, y = sample()
    terms = []
    for i in range(len(y)):
        positives = [j for j in range(len(y)) if j != i and y[j] == y[i]]
        total = sum(math.exp(float(x[i] @ x[k]) / 0.2) for k in range(len(y)) if k != i)
        parts = [-math.log(math.exp(float(x[i] @ x[j]) / 0.2) / total) for j in positives]
        if parts:
            terms.append(sum(parts) / len(parts))
    value = oodml.load("losses", "supcon", temperature=0.2)(x, y)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_equal_to_pytorch_metric_learning() -> None:
    x, y = sample()
    value = oodml.load("losses", "supcon")(x, y)
    torch.testing.assert_close(value, SupConLoss(temperature=0.1)(x, y), rtol=1e-6, atol=0)
