from pathlib import Path

import pytest
import torch

import oodml
from oodml.miners._base import negative_mask
from oodml.miners.distance import log_inverse_density, negative_probabilities
from tests.losses._reference import read


@pytest.mark.parametrize("layout", ["a", "b", "c"])
def test_the_originals_probabilities(reference: Path, layout: str) -> None:
    arrays = read(reference / "miners.npz")
    probabilities = negative_probabilities(
        arrays[f"{layout}_x"], negative_mask(arrays[f"{layout}_y"])
    )
    torch.testing.assert_close(probabilities, arrays[f"{layout}_p"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dim", [64, 128, 512])
def test_the_originals_log_weights(reference: Path, dim: int) -> None:
    arrays = read(reference / "miners.npz")
    log_weights = log_inverse_density(arrays["logq_d"].double(), dim)
    torch.testing.assert_close(log_weights, arrays[f"logq_dim{dim}"].double(), rtol=1e-5, atol=1e-3)


def test_draws_follow_the_probabilities(reference: Path) -> None:
    arrays = read(reference / "miners.npz")
    x, y, p = arrays["a_x"], arrays["a_y"], arrays["a_p"]
    miner, generator = oodml.load("miners", "distance"), torch.Generator().manual_seed(0)
    counts = torch.zeros(32, 32)
    for _ in range(2000):
        triplets = miner(x, y, generator)
        counts[triplets[:, 0], triplets[:, 2]] += 1
    deviation = (counts / 2000 - p).abs() / (p * (1 - p) / 2000 + 1e-4).sqrt()
    assert deviation.max() < 5
    assert counts[p == 0].sum() == 0


@pytest.mark.parametrize("scale", [0.0, 4.0, 1e4])
def test_never_nan(scale: float) -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]) * scale
    allowed = negative_mask(torch.tensor([0, 1, 0, 2]))
    p = negative_probabilities(x, allowed)
    torch.testing.assert_close(p.sum(1), torch.ones(4))
    assert negative_probabilities(x, negative_mask(torch.zeros(4).long())).abs().sum() == 0
