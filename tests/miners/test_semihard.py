from pathlib import Path

import torch

import oodml
from oodml.miners._base import distances, negative_mask
from oodml.miners.semihard import semihard_negatives
from tests.losses._reference import read


def test_the_originals_candidates(reference: Path) -> None:
    arrays = read(reference / "miners.npz")
    x, y = arrays["a_x"], arrays["a_y"]
    expected = arrays["a_semihard_candidates[anchor,pos]"]
    between = distances(x)
    for positive in range(32):
        mask = semihard_negatives(between, negative_mask(y), between[:, positive], 0.2)
        possible = (y == y[positive]) & (torch.arange(32) != positive)
        assert torch.equal(mask[possible], expected[possible, positive])


def test_semihard_negatives_are_preferred() -> None:
    x = torch.tensor([[0.0], [1.0], [1.1], [5.0], [0.5]])
    y = torch.tensor([0, 0, 1, 1, 2])
    triplets = oodml.load("miners", "semihard")(x, y, torch.Generator().manual_seed(0))
    assert triplets[0].tolist() == [0, 1, 2]
    assert triplets[1, :2].tolist() == [1, 0]  # no negative lies 1 to 1.2 from row 1
