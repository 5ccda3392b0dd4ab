"""Small batches and images for checking requirements."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from oodml.checks.requirement import require
from oodml.images.image_set import ImageSet

T = TypeVar("T")
DIM = 6
"""Dimension of the sample embeddings."""
UNUSUAL_LABELS = {
    "one class": (1, 1, 1, 1), "singletons": (0, 1, 2, 3), "a singleton": (0, 0, 0, 3),
    "one row": (2,), "one pair": (0, 0),
}  # fmt: skip
"""Labels of batches that every loss and miner must accept."""
EMBEDDING_KINDS = ("unit", "long", "zero", "collapsed", "antipodal")


def sample_rows(labels: Sequence[int], seed: int = 0, kind: str = "unit") -> tuple[Tensor, Tensor]:
    """Random embeddings [n d] of one of the `EMBEDDING_KINDS`, and the labels [n] as a tensor."""
    y = torch.tensor(list(labels))
    x = torch.randn(len(y), DIM, generator=torch.Generator().manual_seed(seed))
    x = torch.nn.functional.normalize(x, dim=1)
    if kind == "collapsed":
        return x[:1].expand_as(x).clone(), y
    if kind == "antipodal":
        return x[:1] * (1 - 2 * (torch.arange(len(y)) % 2))[:, None], y
    return x * {"unit": 1.0, "long": 20.0, "zero": 0.0}[kind], y


def squares(classes: int = 6, each: int = 8, side: int = 24, seed: int = 0) -> ImageSet:
    """Noisy gray images of squares whose position and brightness depend on the class."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (classes * each, side, side)).astype(np.uint8)
    names = np.array([f"c{c:02d}" for c in range(classes) for _ in range(each)])
    for row in range(len(pixels)):
        c = row // each
        top, left = (c * 5) % (side - 8), (c * 7) % (side - 8)
        pixels[row, top : top + 8, left : left + 8] = 120 + (c * 40) % 130
    ids = np.array([f"{name}/{i:03d}" for i, name in enumerate(names)])
    superclasses = np.array(["even" if int(name[1:]) % 2 == 0 else "odd" for name in names])
    return ImageSet("squares", ids, names, superclasses, pixels=pixels)


def require_unchanged(compute: Callable[[Tensor, Tensor], object], labels: Sequence[int]) -> None:
    x, y = sample_rows(labels)
    before = x.clone(), y.clone()
    compute(x, y)
    unchanged = torch.equal(x, before[0]) and torch.equal(y, before[1])
    require(unchanged, "it modifies them", "Use no in-place operation on the arguments")


def draws_globally(compute: Callable[[], T]) -> tuple[T, bool]:
    """The result of a computation, and whether it drew from the global random generator."""
    state, result = torch.get_rng_state(), compute()
    drew = not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    return result, drew
