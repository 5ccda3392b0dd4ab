"""Seeds and generators. Randomness is an argument everywhere; nothing seeds the process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from oodml.files import content_hash


def derived_seed(seed: int, *path: object) -> int:
    """A seed for one purpose: a hash of `seed` and of the words that name the purpose."""
    return int(content_hash(str(seed), *map(str, path))[:15], 16)


def generator(seed: int, *path: object) -> torch.Generator:
    """A CPU generator for one purpose; see `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *path))


@contextmanager
def isolated(seed: int, *path: object) -> Iterator[None]:
    """Seed the global generators inside the block only.

    Initialisation and dropout of networks draw from the global state and take no generator.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(seed, *path))
        yield
