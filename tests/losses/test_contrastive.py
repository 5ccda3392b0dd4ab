from pathlib import Path

import pytest

import oodml
from tests.losses._reference import check, read


@pytest.mark.parametrize("size", ["32x16", "112x64"])
def test_the_originals_value_and_gradient(reference: Path, size: str) -> None:
    arrays = read(reference / f"criteria_{size}.npz")
    loss = oodml.load("losses", "contrastive")
    check(arrays, "contrastive", lambda x: loss(x, arrays["y"], arrays["triplets"]))
