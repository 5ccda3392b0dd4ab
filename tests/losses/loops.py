"""A batch for tests that compare a loss with a loop."""

import torch
from torch import Tensor


def sample(dim: int = 5, unit: bool = True, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ten rows of four classes, one of them a singleton, in float64."""
    x = torch.randn(10, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = torch.nn.functional.normalize(x, dim=1) if unit else x
    return x, torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 1, 3])
