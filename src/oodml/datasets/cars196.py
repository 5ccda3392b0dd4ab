"""CARS196: 16,185 photographs of 196 car models.

Krause, Stark, Deng and Fei-Fei, 3D Object Representations for Fine-Grained Categorization, 2013.
"""

from pathlib import Path

import numpy as np

from oodml.datasets._layout import class_folders, first_existing, require_files
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

FOLDERS = ("images", "cars196/images", "car_data/car_data", "cars196/car_data/car_data")
LISTS = ("cars_annos.mat", "cars196/cars_annos.mat")


def dataset(root: str | Path) -> ImageSet:
    """Read CARS196 from class folders, or from the authors' archive with its list in MATLAB format.

    The published train and test parts divide images, not classes, and are ignored.

    Args:
        root: the folder that contains `images/CLASS/`, `car_data/car_data/(train|test)/CLASS/`, or
            `car_ims/` and `cars_annos.mat`, directly or in a folder `cars196`.
    """
    path = first_existing("cars196", root, (*FOLDERS, *LISTS))
    return _listed_images(path) if path.suffix == ".mat" else class_folders("cars196", path)


def _listed_images(path: Path) -> ImageSet:
    """The images that `cars_annos.mat` lists, with the names of their classes."""
    from scipy.io import loadmat

    try:
        table = loadmat(path, squeeze_me=True)
        annotations, names = table["annotations"], table["class_names"].astype(np.str_)
        ids = annotations["relative_im_path"].astype(np.str_)
        numbers = annotations["class"].astype(np.int64)
        if numbers.min() < 1:
            raise ValueError(f"class {numbers.min()}; classes are counted from 1")
        classes = names[numbers - 1]
    except Exception as error:  # a damaged file fails in various ways
        message = f"{path}: not the published list of CARS196: {type(error).__name__}: {error}"
        raise OodmlError(message, location=str(path)) from error
    order = np.argsort(ids)
    require_files(path, path.parent, ids[order])
    return ImageSet("cars196", ids[order], classes[order], root=path.parent)
