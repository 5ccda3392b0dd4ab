"""Train and test transforms, from an image to the square input of a network, and their batches.

All random numbers of a view come from the seed passed with the image, so the view does not depend
on the process or the order. Images of the pixel cache are resized by torch, three times as fast as
Pillow. The results differ by at most two of 255 levels, except at the border of a crop: there
Pillow uses pixels outside the crop, torch only those inside. Batches are decoded in advance by
threads, because Pillow decodes without the GIL.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from oodml.errors import unknown
from oodml.images.image_set import ImageSet, InputImage
from oodml.randomness import derived_seed

Augmentation = Literal["model", "base", "big", "adv", "red", "gentle"]
MAX_ASPECT = 16
"""The aspect ratio above which an image is cropped before its short side is enlarged."""
Rows = NDArray[np.int64]
View = Callable[[int], NDArray[Any]]
"""Maps a row to a view of its image, [h w 3] uint8, or floating point in [0, 1]."""
Transform = Callable[[Image.Image, int], NDArray[Any]]
"""Maps an image and a side in pixels to a view."""


@dataclass(frozen=True)
class Recipe:
    """The parameters of an augmentation.

    A random crop covers a fraction of the image in `area`; None resizes the short side to 256/224
    of the input size and crops a square. `jitter` is the largest relative change of brightness,
    contrast, and saturation. The test view is the center, or the `whole` image, or the network's
    own (`own_test`). `enlarge` is the view's size as a multiple of the input size.
    """

    area: tuple[float, float] | None = (0.08, 1.0)
    flip: bool = True
    jitter: float = 0.0
    gray: float = 0.0
    whole: bool = False
    enlarge: float = 1.0
    own_test: bool = False


RECIPES: dict[str, Recipe] = {
    "model": Recipe(own_test=True),
    "base": Recipe(),
    "big": Recipe(enlarge=256 / 224),
    "adv": Recipe(jitter=0.2, gray=0.2),
    "red": Recipe(area=None),
    "gentle": Recipe(area=(0.6, 1.0), flip=False, whole=True),
}
"""The test transform of the network's authors, the four of the paper, and "gentle" for
characters, logos, and text: no mirroring, mild crops."""


def recipe(name: str) -> Recipe:
    """The recipe of an augmentation."""
    if name not in RECIPES:
        raise unknown("augmentation", name, RECIPES)
    return RECIPES[name]


def sufficient_short(recipe: Recipe, size: int) -> int:
    """The smallest short side in pixels at which resized images are good enough for their views.

    The test view is then never upsampled, nor is a random crop of average area from a square image
    (half of the crops). With `area = None` nothing is lost: views are cut from images of this size.
    """
    side = round(size * recipe.enlarge)
    if recipe.area is None:
        return round(side * 256 / 224)
    test = side if recipe.whole else max(side, round(size * 256 / 224))
    return max(test, ceil(side / sqrt(sum(recipe.area) / 2)))


def train_view(image: InputImage, size: int, recipe: Recipe, seed: int) -> NDArray[np.uint8]:
    """A random view of an image: [h w 3] uint8, h = w = size × recipe.enlarge."""
    random = np.random.Generator(np.random.PCG64(seed))
    side = round(size * recipe.enlarge)
    if recipe.area is None:
        view = resize_short(_limit_aspect(image, random), round(side * 256 / 224))
        left, top = (int(random.integers(0, extent - side + 1)) for extent in view.size)
        view = view.crop((left, top, left + side, top + side))
    else:
        view = _resize(image, (side, side), _random_box(extent_of(image), recipe.area, random))
    if recipe.flip and random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if recipe.jitter:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            view = enhance(view).enhance(1 + recipe.jitter * (2 * random.random() - 1))
    if recipe.gray and random.random() < recipe.gray:
        view = view.convert("L").convert("RGB")
    return np.asarray(view)


def test_view(image: InputImage, size: int, recipe: Recipe) -> NDArray[np.uint8]:
    """The test view of an image: its center or, if `recipe.whole`, the whole image."""
    side = round(size * recipe.enlarge)
    if recipe.whole:
        return np.asarray(_resize(image, (side, side)))
    view = resize_short(_limit_aspect(image), round(size * 256 / 224))
    left, top = ((extent - side) // 2 for extent in view.size)
    return np.asarray(view.crop((left, top, left + side, top + side)))


def resize_short(image: InputImage, short: int) -> Image.Image:
    """Resize an image to a short side in pixels, keeping its aspect ratio."""
    extent = extent_of(image)
    scale = short / min(extent)
    width, height = (max(short, round(side * scale)) for side in extent)
    return _resize(image, (width, height))


def _limit_aspect(image: InputImage, random: np.random.Generator | None = None) -> InputImage:
    """The center, or a random part, of a very thin image, `MAX_ASPECT` times as long as its short
    side: at a usual short side the whole would need much memory."""
    width, height = extent = extent_of(image)
    limit = MAX_ASPECT * min(extent)
    if max(extent) <= limit:
        return image
    excess = [max(side - limit, 0) for side in extent]
    left, top = (s // 2 if random is None else int(random.integers(0, s + 1)) for s in excess)
    right, bottom = left + min(width, limit), top + min(height, limit)
    if isinstance(image, Image.Image):
        return image.crop((left, top, right, bottom))
    return image[top:bottom, left:right]


def extent_of(image: InputImage) -> tuple[int, int]:
    """Width and height in pixels."""
    if isinstance(image, Image.Image):
        return image.size
    return image.shape[1], image.shape[0]


def _resize(
    image: InputImage, extent: tuple[int, int], box: tuple[int, int, int, int] | None = None
) -> Image.Image:
    """Resize a box (left, top, right, bottom) of the image, or the whole image."""
    if isinstance(image, Image.Image):
        return image.resize(extent, Image.Resampling.BILINEAR, box=box)
    left, top, right, bottom = box or (0, 0, *extent_of(image))
    if (right - left, bottom - top) == extent:
        return Image.fromarray(image[top:bottom, left:right])
    # Copy, because cached pixels are read-only. `image[None]` preserves the channels-last strides.
    part = torch.from_numpy(image[None, top:bottom, left:right].copy()).permute(0, 3, 1, 2)
    view = torch.nn.functional.interpolate(part, size=extent[::-1], mode="bilinear", antialias=True)
    return Image.fromarray(view[0].permute(1, 2, 0).numpy())


def _random_box(
    extent: tuple[int, int], area: tuple[float, float], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box of random area, its aspect ratio in [3/4, 4/3] (Szegedy et al., 2015)."""
    width, height = extent
    for _ in range(10):
        target = width * height * random.uniform(*area)
        aspect = exp(random.uniform(log(3 / 4), log(4 / 3)))
        w, h = round(sqrt(target * aspect)), round(sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(random.integers(0, width - w + 1))
            top = int(random.integers(0, height - h + 1))
            return (left, top, left + w, top + h)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return (left, top, left + side, top + side)


def test_views(images: ImageSet, size: int, recipe: Recipe, transform: Transform | None) -> View:
    """A function that returns the test view of a row."""
    if transform is None or not recipe.own_test:
        return lambda row: test_view(images.input_image(row), size, recipe)

    def view(row: int) -> NDArray[Any]:
        image = images.input_image(row)
        return transform(image if isinstance(image, Image.Image) else Image.fromarray(image), size)

    return view


def train_views(images: ImageSet, size: int, recipe: Recipe, seed: int) -> View:
    """A function that returns a random view of a row, determined by the seed and the image's id."""

    def view(row: int) -> NDArray[Any]:
        own_seed = derived_seed(seed, images.ids[row])
        return train_view(images.input_image(row), size, recipe, own_seed)

    return view


def batches(
    jobs: Iterable[tuple[Rows, View]], threads: int | None = None, ahead: int = 2
) -> Iterator[Shaped[Tensor, "n 3 h w"]]:
    """Yield the views of each job's rows, in order; they do not depend on the number of threads."""
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
