"""Every backbone of the catalog meets the requirements of `oodml check`."""

import pytest

import oodml
from oodml.checks.check import Factory, requirements_of
from oodml.checks.requirement import Requirement, check_requirement

LARGE = ("bninception", "lite1", "lite2")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
    for name in oodml.names("backbones")
]
NOT_APPLICABLE = {"pixels": {"check_gradient"}}
"""The requirements that do not apply to a backbone: pixels has no parameters."""


@pytest.mark.parametrize("requirement", requirements_of("backbones"), ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_requirements(name: str, requirement: Requirement) -> None:
    result = check_requirement(requirement, Factory("backbones", name, {}))
    applies = requirement.__name__ not in NOT_APPLICABLE.get(name, set())
    assert result.mark == ("✓" if applies else "–"), result
