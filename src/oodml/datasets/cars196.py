"""CARS196: 16,185 photographs of 196 car models.

Krause, Stark, Deng and Fei-Fei, 3D Object Representations for Fine-Grained Categorization, 2013.
"""

from pathlib import Path

from oodml.datasets._layout import class_folders, first_existing
from oodml.images.image_set import ImageSet

FOLDERS = ("images", "cars196/images", "car_data/car_data", "cars196/car_data/car_data")


def dataset(root: str | Path) -> ImageSet:
    """Read CARS196 from class folders.

    The train and test folders of `car_data/car_data` divide images, not classes, and are ignored.

    Args:
        root: the folder that contains `images/CLASS/` or `car_data/car_data/(train|test)/CLASS/`,
            directly or in a folder `cars196`.
    """
    return class_folders("cars196", first_existing("cars196", root, FOLDERS))
