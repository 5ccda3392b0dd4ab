from pathlib import Path

import pytest
import torch
from torch import Tensor

import oodml
from oodml.losses._base import squared_distances
from oodml.losses.margin import margin_of_squared
from tests.losses._reference import check, read


@pytest.mark.parametrize(("key", "beta"), [("margin_b1.2", 1.2), ("margin_b0.6", 0.6)])
def test_the_originals_value_and_gradients(reference: Path, key: str, beta: float) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "margin", n_classes=8, beta=beta)
    check(
        arrays,
        key,
        lambda x: loss(x, arrays["y"], arrays["triplets"]),
        gradients={f"pgrad_{key}__beta": loss.beta},
    )


def test_a_shared_fixed_boundary(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "margin", learn_beta=False)
    assert loss.parameter_groups(1e-5) == []
    check(arrays, "margin_b1.2_const", lambda x: loss(x, arrays["y"], arrays["triplets"]))


def test_the_papers_batch(reference: Path) -> None:
    arrays = read(reference / "criteria_112x64.npz")
    loss = oodml.load("losses", "margin", n_classes=56)
    check(arrays, "margin", lambda x: loss(x, arrays["y"], arrays["triplets"]))


def test_all_triplets_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(9, 4, generator=generator), dim=1).double()
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    total, active = 0.0, 0
    for a in range(9):
        for p in range(9):
            for n in range(9):
                if a != p and y[a] == y[p] and y[a] != y[n]:
                    pull = max(torch.dist(x[a], x[p]).item() - 1.2 + 0.2, 0)
                    push = max(1.2 - torch.dist(x[a], x[n]).item() + 0.2, 0)
                    total, active = total + pull + push, active + (pull > 0 or push > 0)
    assert oodml.load("losses", "margin")(x, y).item() == pytest.approx(total / active, rel=1e-6)


def test_the_boundary_learns_at_its_own_rate() -> None:
    loss = oodml.load("losses", "margin", n_classes=3, beta_lr=1e-5)
    (group,) = loss.parameter_groups(1.0)
    assert group == {"params": [loss.beta], "lr": 1e-5, "weight_decay": 0.0}


def test_many_heads_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 8, 4, generator=generator)
    triplets = torch.randint(0, 8, (5, 6, 3), generator=generator)
    valid = torch.rand(5, 6, generator=generator) < 0.5
    beta = torch.full((5, 6), 1.2)

    def margin_loss(x: Tensor, triplets: Tensor, beta: Tensor, valid: Tensor) -> Tensor:
        return margin_of_squared(*squared_distances(x, triplets), beta, valid, 0.2)

    together = torch.func.vmap(margin_loss)(x, triplets, beta, valid)
    alone = [
        margin_loss(x[i], triplets[i][valid[i]], beta[i][valid[i]], valid[i][valid[i]])
        for i in range(5)
    ]
    torch.testing.assert_close(together, torch.stack(alone))
