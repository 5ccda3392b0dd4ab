import math
from pathlib import Path

import pytest
import torch

import oodml
from tests.losses._reference import Arrays, check, read


def triplets_of_npair(arrays: Arrays) -> torch.Tensor:
    negatives = arrays["npair_negatives"]
    anchors = arrays["npair_anchors"][:, None].expand_as(negatives)
    positives = arrays["npair_positives"][:, None].expand_as(negatives)
    return torch.stack([anchors, positives, negatives], 2).flatten(0, 1)


@pytest.mark.parametrize(("key", "inputs"), [("angular", "x"), ("angular_unnorm", "x_unnorm")])
def test_the_originals_value_and_gradient(reference: Path, key: str, inputs: str) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    triplets = triplets_of_npair(arrays)
    loss = oodml.load("losses", "angular")
    check(arrays, key, lambda x: loss(x, arrays["y"], triplets), inputs=inputs)


def test_classes_of_different_sizes_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, generator=generator).double()
    y = torch.tensor([0, 0, 0, 1, 1, 2, 3])
    unit = torch.nn.functional.normalize(x, dim=1)
    squared_tangent = math.tan(math.radians(30)) ** 2
    values = []
    for a in range(7):
        for p in range(7):
            if a != p and y[a] == y[p]:
                others = y != y[a]
                npair = torch.log1p((x[others] @ x[a] - x[a] @ x[p]).exp().sum())
                both = unit[others] @ (unit[a] + unit[p])
                exponent = 4 * squared_tangent * both
                exponent = exponent - 2 * (1 + squared_tangent) * (unit[a] @ unit[p])
                values.append(npair + 3 * torch.log1p(exponent.exp().sum()))
    expected = torch.stack(values).mean() + 0.1 * x.norm(dim=1).mean()
    loss = oodml.load("losses", "angular", angle=30, angular_weight=3, norm_weight=0.1)
    torch.testing.assert_close(loss(x, y), expected)
