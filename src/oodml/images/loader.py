"""Batches of views of images, decoded ahead by threads (Pillow works without Python's lock)."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from oodml.images.image_set import ImageSet
from oodml.images.transforms import Recipe, test_view, train_view
from oodml.randomness import derived_seed

Rows = NDArray[np.int64]
View = Callable[[int], NDArray[np.uint8]]


def test_views(images: ImageSet, size: int, recipe: Recipe) -> View:
    """From a row to its test view."""
    return lambda row: test_view(images.picture(row), size, recipe)


def train_views(images: ImageSet, size: int, recipe: Recipe, seed: int) -> View:
    """From a row to a random view of it, fixed by the seed and the image's id."""
    return lambda row: train_view(
        images.picture(row), size, recipe, derived_seed(seed, images.ids[row])
    )


def batches(
    jobs: Iterable[tuple[Rows, View]], threads: int | None = None, ahead: int = 2
) -> Iterator[UInt8[Tensor, "n 3 h w"]]:
    """The views of each job's rows, in order, with up to `ahead` batches made in advance.

    threads: by default as many as processors, at most 8. The result does not depend on it.
    """
    count = threads or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as pool:
        waiting: deque[list[Future[list[NDArray[np.uint8]]]]] = deque()
        for rows, view in jobs:
            parts = np.array_split(rows, min(count, len(rows)))
            waiting.append([pool.submit(_views, view, part) for part in parts])
            if len(waiting) > ahead:
                yield _stack(waiting.popleft())
        while waiting:
            yield _stack(waiting.popleft())


def _views(view: View, rows: Rows) -> list[NDArray[np.uint8]]:
    return [view(int(row)) for row in rows]


def _stack(parts: list[Future[list[NDArray[np.uint8]]]]) -> UInt8[Tensor, "n 3 h w"]:
    stacked = np.stack([image for part in parts for image in part.result()])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)
