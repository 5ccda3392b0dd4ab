"""Miniature folders of images in the layouts of the datasets."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> Path:
    """Write an image of noise that the seed determines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def grow(root: Path, names: list[str]) -> Path:
    """Write different images with these names in `root`."""
    for seed, name in enumerate(names):
        draw(root / name, seed)
    return root
