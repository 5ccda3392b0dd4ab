import pytest
import torch

import oodml
from tests.losses.loops import sample


def test_the_cross_entropy_of_squared_distances() -> None:
    x, y = sample()
    loss = oodml.load("losses", "proxy_nca_pp", n_classes=4, dim=5).double()
    proxies = torch.nn.functional.normalize(loss.vectors.detach(), dim=1) * 3
    logits = torch.stack([-((3 * row - proxies) ** 2).sum(1) for row in x])
    expected = torch.nn.functional.cross_entropy(logits, y)
    assert loss(x, y).item() == pytest.approx(expected.item(), rel=1e-6)
