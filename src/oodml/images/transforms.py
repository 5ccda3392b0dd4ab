"""From an image to the square input of a network, for training and for testing.

An augmentation is a named pair of a train and a test transform. Every random number of an
image's transform comes from the seed given with it, so that a view is the same whatever process
makes it, in whatever order.

A picture that was made smaller to be kept is resized by torch, three times as fast as Pillow and
equal to it but for two levels of 255, and for the rim of a crop: Pillow looks at the pixels around
the crop there, torch only at those inside.
"""

from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from oodml.errors import unknown
from oodml.images.image_set import Picture

Augmentation = Literal["base", "big", "adv", "red", "gentle"]


@dataclass(frozen=True)
class Recipe:
    """What an augmentation does.

    area: share of the image that a random crop covers; None crops a square of the input's
    size after resizing the short side by 256/224. flip: mirror half of the images.
    jitter: largest change of brightness, contrast and saturation; grey: share made grey.
    whole: the test image is the whole image, not its centre. enlarge: of the input size.
    """

    area: tuple[float, float] | None = (0.08, 1.0)
    flip: bool = True
    jitter: float = 0.0
    grey: float = 0.0
    whole: bool = False
    enlarge: float = 1.0


RECIPES: dict[str, Recipe] = {
    "base": Recipe(),
    "big": Recipe(enlarge=256 / 224),
    "adv": Recipe(jitter=0.2, grey=0.2),
    "red": Recipe(area=None),
    "gentle": Recipe(area=(0.6, 1.0), flip=False, whole=True),
}
"""The paper's four, and `gentle` for characters, logos and text: nothing is mirrored or cut."""


def recipe(name: str) -> Recipe:
    """The recipe of a name; unknown names are told what is allowed."""
    if name not in RECIPES:
        raise unknown("augmentation", name, RECIPES)
    return RECIPES[name]


def kept_short(recipe: Recipe, size: int) -> int:
    """The short side in pixels that pictures may be kept at without starving their views.

    Neither the test view is enlarged then, nor a random crop of the mean area of a square picture,
    that is half of them. With `area = None` nothing is lost: it is what views are cut out of.
    """
    side = round(size * recipe.enlarge)
    if recipe.area is None:
        return round(side * 256 / 224)
    test = side if recipe.whole else max(side, round(size * 256 / 224))
    return max(test, ceil(side / sqrt(sum(recipe.area) / 2)))


def train_view(picture: Picture, size: int, recipe: Recipe, seed: int) -> NDArray[np.uint8]:
    """A random view of a picture: [h w 3] uint8, h = w = size × recipe.enlarge."""
    random = np.random.Generator(np.random.PCG64(seed))
    side = round(size * recipe.enlarge)
    if recipe.area is None:
        image = resize_short(picture, round(side * 256 / 224))
        left, top = (int(random.integers(0, extent - side + 1)) for extent in image.size)
        image = image.crop((left, top, left + side, top + side))
    else:
        box = _random_box(extent_of(picture), recipe.area, random)
        image = _resized(picture, (side, side), box)
    if recipe.flip and random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if recipe.jitter:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            factor = 1 + recipe.jitter * (2 * random.random() - 1)
            image = enhance(image).enhance(factor)
    if recipe.grey and random.random() < recipe.grey:
        image = image.convert("L").convert("RGB")
    return np.asarray(image)


def test_view(picture: Picture, size: int, recipe: Recipe) -> NDArray[np.uint8]:
    """The test view of a picture: the centre (or, by the recipe, the whole) of it."""
    side = round(size * recipe.enlarge)
    if recipe.whole:
        return np.asarray(_resized(picture, (side, side)))
    image = resize_short(picture, round(size * 256 / 224))
    left, top = ((extent - side) // 2 for extent in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def resize_short(picture: Picture, short: int) -> Image.Image:
    """The picture with a short side of so many pixels, its aspect kept."""
    extent = extent_of(picture)
    scale = short / min(extent)
    width, height = (max(short, round(side * scale)) for side in extent)
    return _resized(picture, (width, height))


def extent_of(picture: Picture) -> tuple[int, int]:
    """Width and height."""
    if isinstance(picture, Image.Image):
        return picture.size
    return picture.shape[1], picture.shape[0]


def _resized(
    picture: Picture, extent: tuple[int, int], box: tuple[int, int, int, int] | None = None
) -> Image.Image:
    """A box of the picture (left, top, right, bottom; all of it by default) at another size."""
    if isinstance(picture, Image.Image):
        return picture.resize(extent, Image.Resampling.BILINEAR, box=box)
    left, top, right, bottom = box or (0, 0, *extent_of(picture))
    if (right - left, bottom - top) == extent:
        return Image.fromarray(picture[top:bottom, left:right])
    # A copy, as what is kept may not be written to; with all strides it stays "channels last".
    part = torch.from_numpy(picture[None, top:bottom, left:right].copy()).permute(0, 3, 1, 2)
    made = torch.nn.functional.interpolate(part, size=extent[::-1], mode="bilinear", antialias=True)
    return Image.fromarray(made[0].permute(1, 2, 0).numpy())


def _random_box(
    extent: tuple[int, int], area: tuple[float, float], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box of random area and aspect in 3/4 … 4/3 (Szegedy et al., 2015)."""
    width, height = extent
    for _ in range(10):
        target = width * height * random.uniform(*area)
        aspect = exp(random.uniform(log(3 / 4), log(4 / 3)))
        w, h = round(sqrt(target * aspect)), round(sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = (
                int(random.integers(0, width - w + 1)),
                int(random.integers(0, height - h + 1)),
            )
            return (left, top, left + w, top + h)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return (left, top, left + side, top + side)
