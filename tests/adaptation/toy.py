"""Classes as noisy points, and episodes over them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodml.adaptation import Heads

CLASSES, IMAGES, FEATURES, DIM = 8, 12, 20, 6
Episodes = list[dict[str, list[int]]]


def toy(noise: float = 1.5, seed: int = 0) -> tuple[Tensor, NDArray[np.str_], Heads]:
    """Features [n f], classes [n] and a random head. Most noise lies in half the dimensions."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, 1, FEATURES, generator=random)
    scale = torch.where(torch.arange(FEATURES) % 2 == 0, 2 * noise, 0.3 * noise)
    spread = torch.randn(CLASSES, IMAGES, FEATURES, generator=random) * scale
    classes = np.repeat([f"c{number}" for number in range(CLASSES)], IMAGES)
    weight = torch.randn(1, DIM, FEATURES, generator=random) / 4
    bias = torch.randn(1, DIM, generator=random) / 10
    return (centres + spread).flatten(0, 1), classes, Heads(weight, bias)


def episodes(count: int, shots: int) -> Episodes:
    """Rows of the support images of each class."""
    return [
        {
            f"c{name}": [name * IMAGES + (number * shots + k) % IMAGES for k in range(shots)]
            for name in range(CLASSES)
        }
        for number in range(count)
    ]
