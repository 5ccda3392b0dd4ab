"""What every method keeps, whatever is added to the catalogue; as `oodml check` looks at it."""

from typing import Any

import pytest

import oodml
from oodml.contract.check import Maker, promises
from oodml.contract.promise import Promise, kept

GIVEN: dict[str, dict[str, Any]] = {
    "criterion": {"loss": "triplet", "miner": "semihard"},
    "s2sd": {"dims": [16, 24]},
}


@pytest.mark.parametrize("promise", promises("methods"), ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", oodml.names("methods"))
def test_promises(name: str, promise: Promise) -> None:
    found = kept(promise, Maker("methods", name, GIVEN.get(name, {})))
    assert found.mark in "✓–", found
