"""Emoji in seven drawing styles: a small color dataset for tests and examples.

A class is an emoji, such as "animals/owl"; its superclass is the Unicode group. The images are
64x64, on white. scripts/render_emoji.py renders them; emoji_licenses.txt has the licenses.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oodml.datasets._layout import check_choice
from oodml.images.image_set import ImageSet

FILE = Path(__file__).with_name("emoji.npz")
SIZE = 64


def dataset(groups: Sequence[str] | None = None, styles: Sequence[str] | None = None) -> ImageSet:
    """Read all images, or those of some groups (superclasses such as "animals") and styles.

    An image's id is "GROUP/NAME/STYLE"; the style is also in the attribute "style".

    Raises:
        OodmlError: if a group or a style does not exist.
    """
    with np.load(FILE, allow_pickle=False) as arrays:
        classes, known = arrays["classes"], arrays["styles"].tolist()
        if styles is not None:
            check_choice("emoji", "styles", styles, known)
        chosen = [style for style in known if styles is None or style in styles]
        tiles = [_tiles(arrays[style], len(classes)) for style in chosen]
    superclasses = np.array([name.partition("/")[0] for name in classes.tolist()])
    order = np.arange(len(chosen) * len(classes)).reshape(len(chosen), -1).T.ravel()
    ids = np.array([f"{name}/{style}" for style in chosen for name in classes.tolist()])
    columns = ids, np.tile(classes, len(chosen)), np.tile(superclasses, len(chosen))
    ids, names, kinds = (column[order] for column in columns)
    style = {"style": np.repeat(chosen, len(classes))[order]}
    pixels = np.concatenate(tiles)[order]
    images = ImageSet("emoji", ids, names, kinds, pixels=pixels, attributes=style)
    if groups is None:
        return images
    check_choice("emoji", "groups", groups, np.unique(superclasses).tolist())
    return images.select(np.isin(np.asarray(images.superclasses), list(groups)))


def _tiles(encoded: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """[n 64 64 3] the first images of a sheet."""
    sheet = np.asarray(Image.open(io.BytesIO(encoded.tobytes()), formats=["WEBP"]).convert("RGB"))
    rows, columns = sheet.shape[0] // SIZE, sheet.shape[1] // SIZE
    tiles = sheet.reshape(rows, SIZE, columns, SIZE, 3).swapaxes(1, 2)
    return tiles.reshape(-1, SIZE, SIZE, 3)[:count]
