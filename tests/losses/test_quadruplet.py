from pathlib import Path

import pytest
import torch

import oodml
from tests.losses._reference import check, read


def test_published_is_the_original(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    fourth = arrays["quadruplet_fourth_index"]
    loss = oodml.load("losses", "quadruplet", published=True, fourth=fourth)
    check(arrays, "quadruplet", lambda x: loss(x, arrays["y"], arrays["triplets"]))


def test_the_default_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(9, 3, generator=generator), dim=1).double()
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3])
    near, apart = [], []
    for a in range(9):
        for p in range(9):
            for n in range(9):
                if a == p or y[a] != y[p] or y[a] == y[n]:
                    continue
                to_positive = torch.dist(x[a], x[p])
                near.append((to_positive - torch.dist(x[a], x[n]) + 0.2).relu())
                for f in range(9):
                    if y[f] not in (y[a], y[n]):
                        apart.append((to_positive - torch.dist(x[n], x[f]) + 0.3).relu())
    expected = torch.stack(near).mean() + torch.stack(apart).mean()
    loss = oodml.load("losses", "quadruplet", second_margin=0.3)
    assert loss(x, y).item() == pytest.approx(expected.item(), rel=1e-6)
