"""What every miner keeps, whatever is added to the catalogue."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oodml

MINERS = oodml.names("miners")
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def ordinary(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (y[a] == y[p]) & (a != p) & (y[a] != y[n])


def within_a_class(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (y[a] == y[p]) & (y[a] == y[n]) & (p != n)


def across_three_classes(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (y[a] != y[p]) & (y[a] != y[n]) & (y[p] != y[n])


def ordinary_or_apart(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return ordinary(y, a, p, n) | ((a == p) & (y[a] == y[n]) & (a != n))


RULES: dict[str, Rule] = {
    "intra_random": within_a_class,
    "rho_distance": ordinary_or_apart,
    "shared_full_distance": across_three_classes,
    "shared_neg_distance": across_three_classes,
}


def mine(name: str, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    triplets = oodml.load("miners", name)(x, y, torch.Generator().manual_seed(seed))
    assert triplets.shape[1:] == (3,)
    assert triplets.dtype == torch.int64
    return triplets


def sample(y: Tensor, dim: int = 5, seed: int = 0) -> Tensor:
    x = torch.randn(len(y), dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


@pytest.mark.parametrize("name", MINERS)
class TestContract:
    @settings(deadline=None, max_examples=30)
    @given(
        labels=st.lists(st.integers(0, 5), min_size=1, max_size=14),
        seed=st.integers(0, 1000),
        kind=st.sampled_from(["unit", "long", "zero", "collapsed", "antipodal"]),
    )
    def test_labels_are_as_promised(
        self, name: str, labels: list[int], seed: int, kind: str
    ) -> None:
        y = torch.tensor(labels)
        x = sample(y, seed=seed)
        if kind == "antipodal":
            x = x[:1] * (1 - 2 * (torch.arange(len(y)) % 2))[:, None]
        elif kind == "collapsed":
            x = x[:1].expand_as(x)
        else:
            x = x * {"unit": 1.0, "long": 7.0, "zero": 0.0}[kind]
        triplets = mine(name, x, y, seed)
        assert ((triplets >= 0) & (triplets < len(y))).all()
        assert RULES.get(name, ordinary)(y, *triplets.unbind(1)).all()

    def test_the_generator_decides(self, name: str) -> None:
        y = torch.arange(12) % 4
        x = sample(y)
        state = torch.random.get_rng_state()
        assert torch.equal(mine(name, x, y, 3), mine(name, x, y, 3))
        assert torch.equal(state, torch.random.get_rng_state())

    def test_singletons_are_no_anchors(self, name: str) -> None:
        y = torch.tensor([0, 0, 1, 1, 2, 3])
        triplets = mine(name, sample(y), y)
        if RULES.get(name) is not across_three_classes:
            assert set(triplets[:, 0].tolist()) <= {0, 1, 2, 3}
        assert len(triplets) > 0

    def test_empty_when_impossible(self, name: str) -> None:
        for y in (torch.zeros(4, dtype=torch.int64), torch.arange(2)):
            triplets = mine(name, sample(y), y)
            possible = RULES.get(name) is within_a_class and len(y) == 4
            assert possible or len(triplets) == 0

    def test_every_possible_anchor_is_used(self, name: str) -> None:
        y = torch.arange(30) % 5
        if name != "easy_positive_semihard":
            assert set(mine(name, sample(y), y)[:, 0].tolist()) == set(range(30))

    def test_masked_is_the_same_with_a_fixed_shape(self, name: str) -> None:
        y = torch.tensor([0, 0, 1, 1, 2, 2, 3])
        x = sample(y)
        miner = oodml.load("miners", name)
        triplets, valid = miner.masked(x, y, torch.Generator().manual_seed(4))
        assert torch.equal(triplets[valid], mine(name, x, y, 4))
        one_class, none = miner.masked(x, torch.zeros_like(y), torch.Generator())
        assert one_class.shape == triplets.shape
        assert none.shape == valid.shape

    def test_many_batches_at_once(self, name: str) -> None:
        generator = torch.Generator().manual_seed(0)
        y = torch.randint(0, 3, (4, 9), generator=generator)
        x = torch.randn(4, 9, 5, generator=generator)
        miner = oodml.load("miners", name)
        uniform = torch.rand(4, miner.draws, 9, generator=generator)
        together = torch.func.vmap(miner.choose)(x, y, uniform)
        for i in range(4):
            triplets, valid = miner.choose(x[i], y[i], uniform[i])
            assert torch.equal(together[1][i], valid)
            assert torch.equal(together[0][i][valid], triplets[valid])

    def test_no_gradient_and_half_precision(self, name: str) -> None:
        y = torch.arange(12) % 4
        x = sample(y).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(mine(name, x, y), mine(name, x.detach(), y))
            mine(name, x.bfloat16(), y)
