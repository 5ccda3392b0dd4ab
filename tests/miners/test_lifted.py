from pathlib import Path

import torch

import oodml
from tests.losses._reference import read


def test_the_originals_pairs(reference: Path) -> None:
    arrays = read(reference / "miners.npz")
    triplets = oodml.load("miners", "lifted")(arrays["a_x"], arrays["a_y"], torch.Generator())
    for anchor in range(32):
        own = triplets[triplets[:, 0] == anchor]
        assert set(own[:, 1].tolist()) == set(arrays["a_lifted_pos"][anchor].tolist())
        assert set(own[:, 2].tolist()) == set(arrays["a_lifted_neg"][anchor].tolist())
        assert len(own) == 3 * 28
