"""What every few-shot adapter of the catalog must satisfy."""

import pytest
import torch

import oodml
from oodml import catalog
from oodml.adaptation import AdaptSettings

from .toy import episodes, toy

NAMES = catalog.names("adapters")


def settings_of(name: str) -> AdaptSettings:
    return AdaptSettings(
        objective=name, iterations=5, lr=1e-3, batch_size=12, metrics=("recall@1", "accuracy")
    )


def test_the_catalog_lists_the_adapters() -> None:
    assert {"margin", "multisimilarity", "triplet", "prototypes", "linear"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_adapted_heads_are_finite_and_inputs_unchanged(name: str) -> None:
    features, classes, head = toy()
    before = features.clone(), head.weight.clone()
    result = oodml.adapt(features, classes, episodes(2, 3), head, settings_of(name))
    assert torch.isfinite(result.heads.embed(features[None])).all()
    assert len(result.heads.weight) == 2
    assert torch.equal(features, before[0])
    assert torch.equal(head.weight, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_does_not_depend_on_the_others(name: str) -> None:
    features, classes, head = toy()
    together = oodml.adapt(features, classes, episodes(3, 3), head, settings_of(name))
    alone = oodml.adapt(
        features, classes, episodes(3, 3)[1:2], head, settings_of(name), numbers=[1]
    )
    assert together.after[1] == pytest.approx(alone.after[0], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_adapted_head_becomes_a_module(name: str) -> None:
    features, classes, head = toy()
    result = oodml.adapt(features, classes, episodes(1, 3), head, settings_of(name))
    module = result.heads.module(torch.nn.Identity())
    found = module.embed(features)  # type: ignore[operator]
    torch.testing.assert_close(found, result.heads.embed(features[None])[0])
