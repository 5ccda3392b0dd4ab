import pytest
import torch

import oodml
from oodml.miners.parametric import bin_weights


def test_bins_are_equally_likely() -> None:
    between = torch.tensor([[0.1, 0.15, 0.6, 1.9, 0.55]]).expand(5, -1)
    allowed = torch.tensor([[True, True, True, True, False]]).expand(5, -1)
    weights = bin_weights(between, allowed, 0.0, 1.0, 2)
    expected = torch.tensor([[0.5, 0.5, 1.0, 0.0, 0.0]]).expand(5, -1)
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize(
    ("mode", "low", "high"), [("hard", 0, 0.5), ("semihard", 0.3, 0.7), ("very_hard", 0, 0.3)]
)
def test_negatives_are_in_the_range(mode: str, low: float, high: float) -> None:
    angles = torch.linspace(0, 3, 40)
    x, y = torch.stack([angles.cos(), angles.sin()], 1), torch.arange(40) % 4
    miner = oodml.load("miners", "parametric", mode=mode)
    anchor, _, negative = miner(x, y, torch.Generator().manual_seed(0)).unbind(1)
    distance = (x[anchor] - x[negative]).norm(dim=1)
    assert ((distance >= low - 1e-5) & (distance <= high + 1e-5)).all()


def test_errors() -> None:
    with pytest.raises(oodml.OodmlError, match="Did you mean 'semihard'"):
        oodml.load("miners", "parametric", mode="semi_hard")
