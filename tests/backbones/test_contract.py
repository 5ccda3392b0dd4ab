"""What every backbone keeps, whatever is added to the catalogue; as `oodml check` looks at it."""

import pytest

import oodml
from oodml.contract.check import Maker, promises
from oodml.contract.promise import Promise, kept

LARGE = ("bninception", "lite1", "lite2")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
    for name in oodml.names("backbones")
]


@pytest.mark.parametrize("promise", promises("backbones"), ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_promises(name: str, promise: Promise) -> None:
    found = kept(promise, Maker("backbones", name, {}))
    assert found.mark in "✓–", found
