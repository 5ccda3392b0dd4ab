"""What every few-shot adapter of the catalog must satisfy."""

import pytest
import torch

import oodml
from oodml import catalog
from oodml.adaptation import AdaptSettings
from oodml.checks.check import Factory, requirements_of
from oodml.checks.requirement import Requirement, check_requirement

from .toy import episodes, toy

NAMES = catalog.names("few_shot_adapters")


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


@pytest.mark.parametrize(
    "requirement", requirements_of("few_shot_adapters"), ids=lambda one: one.__name__
)
@pytest.mark.parametrize("name", NAMES)
def test_requirements(name: str, requirement: Requirement) -> None:
    result = check_requirement(requirement, Factory("few_shot_adapters", name, {}))
    assert result.mark == "✓", result
