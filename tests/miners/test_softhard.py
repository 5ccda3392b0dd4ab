from pathlib import Path

import torch

from oodml.miners._base import negative_mask, positive_mask
from oodml.miners.softhard import softhard_pairs
from tests.losses._reference import read


def test_the_originals_pairs(reference: Path) -> None:
    arrays = read(reference / "miners.npz")
    positives, negatives = softhard_pairs(
        arrays["a_x"], positive_mask(arrays["a_y"]), negative_mask(arrays["a_y"])
    )
    assert torch.equal(positives, arrays["a_softhard_posmask"])
    assert torch.equal(negatives, arrays["a_softhard_negmask"])
