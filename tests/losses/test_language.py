import math

import pytest
import torch

import oodml
from tests.losses.loops import sample


def test_a_loop_over_rows() -> None:
    x, y = sample()
    names = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    options = {"n_classes": 4, "class_vectors": names, "shift": 0.5, "temperature": 0.7}
    value = oodml.load("losses", "language", **options)(x, y)
    total = 0.0
    for i in range(len(y)):
        image, text = [], []
        for j in range(len(y)):
            a, b = names[y[i]], names[y[j]]
            same = bool(y[i] == y[j])
            image.append(1.5 if same else float(x[i] @ x[j]))
            text.append(1.5 if same else float(a @ b / a.norm() / b.norm()) + 0.5)
        p, q = ([math.exp(s / 0.7) for s in scores] for scores in (text, image))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert value.item() == pytest.approx(0.7**2 * total / len(y), rel=1e-5)
