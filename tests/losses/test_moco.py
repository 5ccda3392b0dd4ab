import math
from pathlib import Path

import pytest
import torch

import oodml
from tests.losses._reference import check, read


def test_the_originals_value_and_gradient(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "moco")
    key, queue = arrays["moco_key"], arrays["moco_queue"]
    check(arrays, "moco", lambda x: loss(x, key, queue), inputs="moco_query")


def test_a_batch_of_one_by_hand() -> None:
    x = torch.eye(3)
    loss = oodml.load("losses", "moco", temperature=0.5)
    expected = math.log(math.exp(2) + 2) - 2
    assert loss(x[:1], x[:1], x[1:]).item() == pytest.approx(expected)
