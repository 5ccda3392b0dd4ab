from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_metric_learning.losses import ProxyNCALoss

import oodml
from tests.losses._reference import check, read, set_parameter


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("default", {}),
        ("convert_to_p", {"to_probability": True}),
        ("cosine", {"similarity": "cosine"}),
        ("sq_dist", {"similarity": "plain"}),
        ("T0.5", {"temperature": 0.5, "published": True}),
    ],
)
def test_the_originals_value_and_gradients(
    reference: Path, key: str, options: dict[str, Any]
) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "proxy_nca", n_classes=8, dim=16, **options)
    set_parameter(loss.vectors, arrays["proxynca_proxies"])
    gradients = {f"pgrad_proxynca_{key}__proxies": loss.vectors}
    check(arrays, f"proxynca_{key}", lambda x: loss(x, arrays["y"]), gradients=gradients)


def test_the_probability_is_that_of_pytorch_metric_learning() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(12, 4, generator=generator), torch.arange(12) % 5
    options = {"to_probability": True, "temperature": 2.0, "generator": generator}
    ours = oodml.load("losses", "proxy_nca", n_classes=5, dim=4, **options)
    theirs = ProxyNCALoss(5, 4, softmax_scale=9 / 2)
    set_parameter(theirs.proxies, ours.vectors)
    assert ours(x, y).item() == pytest.approx(theirs(x, y).item(), rel=1e-5)
