"""Small drawings of stripes: a superclass is a direction, a class is a frequency and a phase."""

from pathlib import Path

import numpy as np
from PIL import Image

from oodml.images.image_set import ImageSet

SIZE = 16


def drawings(superclasses: int, classes: int = 5, images: int = 6) -> ImageSet:
    """Noisy stripes."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    pixels, names, groups = [], [], []
    for group in range(superclasses):
        angle = np.pi * group / superclasses
        along = x * np.cos(angle) + y * np.sin(angle)
        for number in range(classes):
            wave = np.sin(2 * np.pi * (1 + 0.5 * number) * along + number)
            for _ in range(images):
                noise = generator.normal(0, 0.7, x.shape)
                pixels.append((127 + 60 * np.clip(wave + noise, -2, 2)).astype(np.uint8))
                names.append(f"class{group}{number}")
                groups.append(f"group{group}")
    ids = np.array([f"{name}/{row}" for row, name in enumerate(names)])
    return ImageSet(
        "drawings", ids, np.array(names), superclasses=np.array(groups), pixels=np.stack(pixels)
    )


def write_drawings(images: ImageSet, folder: Path) -> Path:
    """Write the images as GROUP/CLASS/NAME.png."""
    assert images.superclasses is not None
    assert images.pixels is not None
    for row, (name, group) in enumerate(zip(images.classes, images.superclasses, strict=True)):
        path = folder / str(group) / str(name)
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[row]).save(path / f"{row:04d}.png")
    return folder
