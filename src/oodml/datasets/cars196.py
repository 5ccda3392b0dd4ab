"""CARS196: 16,185 photographs of 196 car models.

Krause, Stark, Deng and Fei-Fei, 3D Object Representations for Fine-Grained Categorization, 2013.
"""

from pathlib import Path

from oodml.datasets._layout import class_folders, first_present
from oodml.images.image_set import ImageSet

FOLDERS = ("images", "cars196/images", "car_data/car_data", "cars196/car_data/car_data")


def dataset(root: str | Path) -> ImageSet:
    """The images under `root/images/CLASS/`, or in a folder cars196 of `root`.

    The layout `car_data/car_data/(train|test)/CLASS/` of the copy that is still distributed
    is read too; its own division is of images, not of classes, and is left aside.
    """
    return class_folders("cars196", first_present("cars196", root, FOLDERS))
