from pathlib import Path

import pytest
import torch

import oodml
from tests.losses._reference import read, set_parameter

HEADS = ("discriminative", "selfsimilarity", "shared", "intra")


def test_the_originals_value_and_gradients(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    heads = {name: arrays[f"advsep_x_{name}"].clone().requires_grad_() for name in HEADS}
    loss = oodml.load(
        "losses",
        "adversarial_separation",
        dims=dict.fromkeys(HEADS, 16),
        pairs=[(source, "discriminative") for source in HEADS[1:]],
        weight=300.0,
        hidden=24,
    )
    parameters = dict(loss.named_parameters())
    for name, parameter in parameters.items():
        set_parameter(parameter, arrays[f"advsep_w_{name}"])
    value = loss(heads)
    value.backward()
    expected = arrays["loss_adversarial_separation"].item()
    assert value.item() == pytest.approx(expected, rel=1e-5)
    gradients = {f"grad_advsep_{name}": head.grad for name, head in heads.items()}
    gradients |= {f"pgrad_advsep_{name}": parameter.grad for name, parameter in parameters.items()}
    for name, gradient in gradients.items():
        largest = arrays[name].abs().max().item()
        torch.testing.assert_close(gradient, arrays[name], rtol=0, atol=1e-4 * largest)
