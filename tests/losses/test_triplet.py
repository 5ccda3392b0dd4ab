from pathlib import Path

import pytest
import torch
from torch import Tensor

import oodml
from oodml.losses._base import squared_distances
from oodml.losses.triplet import triplet_of_squared
from tests.losses._reference import check, read


@pytest.mark.parametrize("size", ["32x16", "112x64"])
def test_the_originals_value_and_gradient(reference: Path, size: str) -> None:
    arrays = read(reference / f"criteria_{size}.npz")
    loss = oodml.load("losses", "triplet")
    check(arrays, "triplet", lambda x: loss(x, arrays["y"], arrays["triplets"]))


def test_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    y = torch.tensor([0, 0, 1])
    loss = oodml.load("losses", "triplet", margin=4.0)
    assert loss(x, y).item() == pytest.approx(((1 - 4 + 4) + (1 - 5 + 4)) / 2)


def test_many_heads_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 8, 4, generator=generator)
    triplets = torch.randint(0, 8, (5, 6, 3), generator=generator)
    valid = torch.rand(5, 6, generator=generator) < 0.5

    def triplet_loss(x: Tensor, triplets: Tensor, valid: Tensor) -> Tensor:
        return triplet_of_squared(*squared_distances(x, triplets), valid, 0.2)

    together = torch.func.vmap(triplet_loss)(x, triplets, valid)
    alone = [triplet_loss(x[i], triplets[i][valid[i]], valid[i][valid[i]]) for i in range(5)]
    torch.testing.assert_close(together, torch.stack(alone))
