from pathlib import Path

import torch

import oodml
from oodml.losses.image_rotation import rotate
from tests.losses._reference import check, read, set_parameter


def test_the_originals_value_and_gradient(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "image_rotation", dim=16)
    set_parameter(loss.weight, arrays["imrot_w"])
    check(arrays, "imrot", lambda x: loss(x, torch.arange(32) % 4))


def test_rotation() -> None:
    images = torch.arange(8.0).reshape(2, 1, 2, 2)
    turned = rotate(images, torch.tensor([1, 0]))
    assert turned[0, 0].tolist() == [[1, 3], [0, 2]]
    assert torch.equal(turned[1], images[1])
