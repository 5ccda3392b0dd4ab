"""Batches of image views, decoded in advance by threads (Pillow decodes without the GIL)."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from oodml.images.image_set import ImageSet
from oodml.images.transforms import Recipe, as_pil, test_view, train_view
from oodml.randomness import derived_seed

Rows = NDArray[np.int64]
View = Callable[[int], NDArray[Any]]
"""Maps a row to a view of its image, [h w 3] uint8, or floating point in [0, 1]."""
Transform = Callable[[Image.Image, int], NDArray[Any]]
"""Maps an image and a side in pixels to a view."""


def test_views(images: ImageSet, size: int, recipe: Recipe, transform: Transform | None) -> View:
    """A function that returns the test view of a row."""
    if recipe.own_test and transform is not None:
        return lambda row: transform(as_pil(images.input_image(row)), size)
    return lambda row: test_view(images.input_image(row), size, recipe)


def train_views(images: ImageSet, size: int, recipe: Recipe, seed: int) -> View:
    """A function that returns a random view of a row, determined by the seed and the image's id."""
    return lambda row: train_view(
        images.input_image(row), size, recipe, derived_seed(seed, images.ids[row])
    )


def batches(
    jobs: Iterable[tuple[Rows, View]], threads: int | None = None, ahead: int = 2
) -> Iterator[Shaped[Tensor, "n 3 h w"]]:
    """Yield the views of each job's rows, in order.

    Args:
        jobs: for each batch, its rows and the function that returns their views.
        threads: by default the number of processors, at most 8. The result does not depend on it.
    """
    count = threads or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as pool:
        pending: deque[list[Future[list[NDArray[Any]]]]] = deque()
        for rows, view in jobs:
            parts = np.array_split(rows, min(count, len(rows)))
            pending.append([pool.submit(_views, view, part) for part in parts])
            if len(pending) > ahead:
                yield _stack(pending.popleft())
        while pending:
            yield _stack(pending.popleft())


def _views(view: View, rows: Rows) -> list[NDArray[Any]]:
    return [view(int(row)) for row in rows]


def _stack(parts: list[Future[list[NDArray[Any]]]]) -> Shaped[Tensor, "n 3 h w"]:
    stacked = np.stack([image for part in parts for image in part.result()])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)
