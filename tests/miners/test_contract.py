"""What every miner keeps, whatever is added to the catalogue."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oodml
from oodml.contract.check import Maker, promises
from oodml.contract.miners import mined, relation_of
from oodml.contract.promise import Promise, kept

MINERS = oodml.names("miners")


def sample(y: Tensor, dim: int = 5, seed: int = 0) -> Tensor:
    x = torch.randn(len(y), dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


@pytest.mark.parametrize("promise", promises("miners"), ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", MINERS)
def test_promises(name: str, promise: Promise) -> None:
    """What `oodml check` looks at in a miner of the user's."""
    found = kept(promise, Maker("miners", name, {}))
    assert found.mark == "✓", found


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
        mined(oodml.load("miners", name), x, y, seed)

    def test_singletons_are_no_anchors(self, name: str) -> None:
        y = torch.tensor([0, 0, 1, 1, 2, 3])
        miner = oodml.load("miners", name)
        anchors = mined(miner, sample(y), y)[:, 0].tolist()
        assert relation_of(miner) == "across" or set(anchors) <= {0, 1, 2, 3}

    def test_every_possible_anchor_is_used(self, name: str) -> None:
        y = torch.arange(30) % 5
        if name != "easy_positive_semihard":
            triplets = mined(oodml.load("miners", name), sample(y), y)
            assert set(triplets[:, 0].tolist()) == set(range(30))
