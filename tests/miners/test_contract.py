"""Every miner of the catalog meets the requirements of `oodml check`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oodml
from oodml.checks.check import Factory, requirements_of
from oodml.checks.miners import mine_checked, relation_of
from oodml.checks.requirement import Requirement, check_requirement

MINERS = oodml.names("miners")


def sample(y: Tensor, dim: int = 5, seed: int = 0) -> Tensor:
    x = torch.randn(len(y), dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


@pytest.mark.parametrize("requirement", requirements_of("miners"), ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", MINERS)
def test_requirements(name: str, requirement: Requirement) -> None:
    result = check_requirement(requirement, Factory("miners", name, {}))
    assert result.mark == "✓", result


@pytest.mark.parametrize("name", MINERS)
class TestContract:
    @settings(deadline=None, max_examples=30)
    @given(
        labels=st.lists(st.integers(0, 5), min_size=1, max_size=14),
        seed=st.integers(0, 1000),
        kind=st.sampled_from(["unit", "long", "zero", "collapsed", "antipodal"]),
    )
    def test_labels_have_the_declared_relation(
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
        mine_checked(oodml.load("miners", name), x, y, seed)

    def test_singletons_are_no_anchors(self, name: str) -> None:
        y = torch.tensor([0, 0, 1, 1, 2, 3])
        miner = oodml.load("miners", name)
        anchors = mine_checked(miner, sample(y), y)[:, 0].tolist()
        assert relation_of(miner) == "across" or set(anchors) <= {0, 1, 2, 3}

    def test_every_possible_anchor_is_used(self, name: str) -> None:
        y = torch.arange(30) % 5
        anchors = set(mine_checked(oodml.load("miners", name), sample(y), y)[:, 0].tolist())
        # This miner skips anchors whose negatives are all nearer than the nearest positive.
        assert anchors == set(range(30)) or (name == "easy_positive_semihard" and len(anchors) > 15)
