from pathlib import Path

import torch

import oodml
from tests.losses._reference import read


def test_one_positive_with_all_negatives(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    generator = torch.Generator().manual_seed(0)
    triplets = oodml.load("miners", "npair")(arrays["x"], arrays["y"], generator)
    for anchor, negatives in zip(arrays["npair_anchors"], arrays["npair_negatives"], strict=True):
        own = triplets[triplets[:, 0] == anchor]
        assert len(own[:, 1].unique()) == 1
        assert own[:, 2].tolist() == negatives.tolist()
