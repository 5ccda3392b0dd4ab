import pytest
import torch

import oodml
from oodml.miners._base import negative_mask
from oodml.miners.distance import negative_probabilities


@pytest.mark.parametrize(
    ("name", "weighted"), [("shared_full_distance", True), ("shared_neg_distance", False)]
)
def test_how_the_positive_of_another_class_is_drawn(name: str, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(12, 6, generator=generator), dim=1)
    y = torch.arange(12) % 4
    miner = oodml.load("miners", name)
    counts = torch.zeros(12, 12)
    for _ in range(1000):
        anchor, positive, _ = miner(x, y, generator).unbind(1)
        counts[anchor, positive] += 1
    allowed = negative_mask(y)
    expected = negative_probabilities(x, allowed) if weighted else allowed.float() / 9
    deviation = (counts / 1000 - expected).abs() / (expected / 1000 + 1e-4).sqrt()
    assert deviation.max() < 5
