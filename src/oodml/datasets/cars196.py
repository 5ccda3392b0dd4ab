"""CARS196: 16,185 photographs of 196 car models.

Krause, Stark, Deng and Fei-Fei, 3D Object Representations for Fine-Grained Categorization, 2013.
"""

from pathlib import Path

import numpy as np

from oodml.arrays import Names
from oodml.datasets._layout import class_folders, first_existing, require_files
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

FOLDERS = ("images", "cars196/images", "car_data/car_data", "cars196/car_data/car_data")
LISTS = ("cars_annos.mat", "cars196/cars_annos.mat")
DEVKITS = ("devkit/cars_meta.mat", "cars196/devkit/cars_meta.mat")
PARTS = {
    "cars_train": ("devkit/cars_train_annos.mat",),
    "cars_test": ("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat"),
}
"""The folders of the separate archives, and the lists of their images with classes."""


def dataset(root: str | Path) -> ImageSet:
    """Read CARS196 from class folders, or from the authors' archive with its list in MATLAB format.

    The published train and test parts divide images, not classes, and are ignored.

    Args:
        root: the folder that contains `images/CLASS/`, `car_data/car_data/(train|test)/CLASS/`,
            `car_ims/` and `cars_annos.mat`, or `cars_train/`, `cars_test/`, `devkit/`, and
            `cars_test_annos_withlabels.mat`, directly or in a folder `cars196`.
    """
    path = first_existing("cars196", root, (*FOLDERS, *LISTS, *DEVKITS))
    if path.name == "cars_meta.mat":
        return _devkit_images(path)
    if path.suffix == ".mat":
        return _image_set(path, *_listed_images(path, path))
    return class_folders("cars196", path)


def _devkit_images(meta: Path) -> ImageSet:
    """The images of both archives, by the lists of the devkit."""
    home = meta.parent.parent
    parts = []
    for folder, lists in PARTS.items():
        path = first_existing("cars196", home, lists)
        ids, classes = _listed_images(path, meta, "fname")
        parts.append((np.char.add(f"{folder}/", ids), classes))
    return _image_set(home / meta.name, *map(np.concatenate, zip(*parts, strict=True)))


def _image_set(path: Path, ids: Names, classes: Names) -> ImageSet:
    order = np.argsort(ids)
    require_files(path, path.parent, ids[order])
    return ImageSet("cars196", ids[order], classes[order], root=path.parent)


def _listed_images(path: Path, meta: Path, column: str = "relative_im_path") -> tuple[Names, Names]:
    """The images that a list names, and their classes, whose names are in `meta`."""
    from scipy.io import loadmat

    try:
        annotations = np.atleast_1d(loadmat(path, squeeze_me=True)["annotations"])
        names = loadmat(meta, squeeze_me=True)["class_names"].astype(np.str_)
        ids = annotations[column].astype(np.str_)
        numbers = annotations["class"].astype(np.int64)
        if numbers.min() < 1:
            raise ValueError(f"class {numbers.min()}; classes are counted from 1")
        classes = names[numbers - 1]
    except Exception as error:  # a damaged file fails in various ways
        message = f"{path}: not the published list of CARS196: {type(error).__name__}: {error}"
        raise OodmlError(message, location=str(path)) from error
    return ids, classes
