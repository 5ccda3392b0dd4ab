"""Every method of the catalog meets the requirements of `oodml check`."""

from typing import Any

import pytest

import oodml
from oodml.checks.check import Factory, requirements_of
from oodml.checks.requirement import Requirement, check_requirement

OPTIONS: dict[str, dict[str, Any]] = {
    "criterion": {"loss": "triplet", "miner": "semihard"},
    "s2sd": {"dims": [16, 24]},
}
NOT_APPLICABLE = {
    "frozen": {
        "check_training",
        "check_reproducibility",
        "check_resume",
        "check_parameter_groups",
        "check_saved_model",
    }
}
"""The requirements that do not apply to a method: frozen does not train."""


COMPOSED: list[dict[str, Any]] = [
    {"losses": [{"loss": "hyp"}, {"loss": "hier", "weight": 0.5}], "space": "poincare"},
    {"losses": [{"loss": "triplet", "miner": "distance"}, {"loss": "tcm"}], "memory": 24},
    {"loss": "pfml", "dims": [4, 8], "memory": 24, "memory_start": 1},
    {"losses": [{"loss": "recall_surrogate"}, {"loss": "language"}, {"loss": "supcon"}]},
]


@pytest.mark.parametrize("requirement", requirements_of("methods"), ids=lambda one: one.__name__)
@pytest.mark.parametrize("options", COMPOSED, ids=str)
def test_requirements_of_composed_losses(options: dict[str, Any], requirement: Requirement) -> None:
    result = check_requirement(requirement, Factory("methods", "criterion", options))
    assert result.mark == "✓", result


@pytest.mark.parametrize("requirement", requirements_of("methods"), ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", oodml.names("methods"))
def test_requirements(name: str, requirement: Requirement) -> None:
    result = check_requirement(requirement, Factory("methods", name, OPTIONS.get(name, {})))
    applies = requirement.__name__ not in NOT_APPLICABLE.get(name, set())
    assert result.mark == ("✓" if applies else "–"), result
