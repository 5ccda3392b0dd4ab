import pytest
import torch

import oodml


def test_the_share_of_triplets_that_push_a_class_apart() -> None:
    y = torch.arange(2000) % 500
    x = torch.nn.functional.one_hot(y, 500).float()
    miner = oodml.load("miners", "rho_distance", probability=0.4)
    anchor, positive, negative = miner(x, y, torch.Generator().manual_seed(0)).unbind(1)
    apart = anchor == positive
    assert apart.float().mean() == pytest.approx(0.4, abs=0.05)
    assert (y[negative[apart]] == y[anchor[apart]]).all()


def test_errors() -> None:
    with pytest.raises(oodml.OodmlError, match=r"probability 2 .* \[0, 1\]"):
        oodml.load("miners", "rho_distance", probability=2)
