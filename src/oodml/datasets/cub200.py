"""CUB-200-2011: 11,788 photographs of 200 bird species.

Wah, Branson, Welinder, Perona and Belongie, The Caltech-UCSD Birds-200-2011 Dataset, 2011.
"""

from pathlib import Path

from oodml.datasets._layout import class_folders, first_existing
from oodml.images.image_set import ImageSet

FOLDERS = ("images", "cub200/images", "CUB_200_2011/images")


def dataset(root: str | Path) -> ImageSet:
    """Read `images/CLASS/` in the root folder, or in a folder `cub200` or `CUB_200_2011` there."""
    return class_folders("cub200", first_existing("cub200", root, FOLDERS))
