"""Seeds and generators. Randomness is always an argument; nothing seeds the process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from oodml.files import content_hash


def derived_seed(seed: int, *purpose: object) -> int:
    """A seed for one purpose: a hash of `seed` and the words that name the purpose."""
    return int(content_hash(str(seed), *map(str, purpose))[:15], 16)


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose; see `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


@contextmanager
def isolated(seed: int, *purpose: object) -> Iterator[None]:
    """Seed the global generators within the block, for initialization and dropout, which accept no
    generator; and restore their state afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(seed, *purpose))
        yield
