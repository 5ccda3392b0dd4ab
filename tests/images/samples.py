"""Small image sets for tests."""

from pathlib import Path

from PIL import Image

from oodml.checks.samples import squares as squares
from oodml.images.image_set import ImageSet


def write_folder(images: ImageSet, root: Path, *, superclasses: bool = False) -> Path:
    """Write the images as root/class/N.png, or root/superclass/class/N.png."""
    for row in range(len(images)):
        name = str(images.classes[row])
        folder = root / images.superclass_of[name] / name if superclasses else root / name
        folder.mkdir(parents=True, exist_ok=True)
        image: Image.Image = images.read(row)
        image.save(folder / f"{row:03d}.png")
    return root
