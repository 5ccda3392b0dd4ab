"""Small collections that tests share."""

from pathlib import Path

import numpy as np
from PIL import Image

from oodml.images import ImageSet


def squares(classes: int = 6, each: int = 8, side: int = 24, seed: int = 0) -> ImageSet:
    """Noisy grey images; a class is the place and brightness of a square. Two superclasses."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (classes * each, side, side)).astype(np.uint8)
    names = np.array([f"c{c:02d}" for c in range(classes) for _ in range(each)])
    for row in range(len(pixels)):
        c = row // each
        top, left = (c * 5) % (side - 8), (c * 7) % (side - 8)
        pixels[row, top : top + 8, left : left + 8] = 120 + (c * 40) % 130
    return ImageSet(
        "squares",
        ids=np.array([f"{name}/{i:03d}" for i, name in enumerate(names)]),
        classes=names,
        superclasses=np.array(["even" if int(name[1:]) % 2 == 0 else "odd" for name in names]),
        pixels=pixels,
    )


def write_folder(images: ImageSet, root: Path, *, superclasses: bool = False) -> Path:
    """The images as root/class/N.png, or root/superclass/class/N.png."""
    for row in range(len(images)):
        name = str(images.classes[row])
        folder = root / images.superclass_of[name] / name if superclasses else root / name
        folder.mkdir(parents=True, exist_ok=True)
        image: Image.Image = images.read(row)
        image.save(folder / f"{row:03d}.png")
    return root
