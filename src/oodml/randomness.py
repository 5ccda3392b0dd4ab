"""Seeds and generators. Randomness is always an argument; nothing seeds the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within the block, threads of the CPU add the gradients of rows used twice in a fixed order.

    By default they add them as they finish, so that two trainings with one seed differ.
    """
    if device.type != "cpu":
        yield
        return
    options: Any = torch.utils.deterministic
    enabled, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.get_deterministic_debug_mode(),
    )
    fill = options.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    options.fill_uninitialized_memory = fill and enabled
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(warn)
        options.fill_uninitialized_memory = fill
