"""CARS196: 16,185 photographs of 196 car models.

Krause, Stark, Deng and Fei-Fei, 3D Object Representations for Fine-Grained Categorization, 2013.
"""

from pathlib import Path

import numpy as np

from oodml.arrays import Names
from oodml.datasets._layout import class_folders, first_existing, require_files
from oodml.errors import error_at
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

    The root contains `images/CLASS/`, `car_data/car_data/(train|test)/CLASS/`, `car_ims/` and
    `cars_annos.mat`, or `cars_train/`, `cars_test/`, `devkit/`, and
    `cars_test_annos_withlabels.mat`, directly or in a folder `cars196`.
    """
    path = first_existing("cars196", root, (*FOLDERS, *LISTS, *DEVKITS))
    home = path.parent
    if path.suffix != ".mat":
        return class_folders("cars196", path)
    if path.name == "cars_meta.mat":  # both archives, by the lists of the devkit
        home, parts = path.parent.parent, []
        for folder, lists in PARTS.items():
            names, labels = _listed_images(first_existing("cars196", home, lists), path, "fname")
            parts.append((np.char.add(f"{folder}/", names), labels))
        ids, classes = map(np.concatenate, zip(*parts, strict=True))
    else:
        ids, classes = _listed_images(path, path, "relative_im_path")
    order = np.argsort(ids)
    require_files(path, home, ids[order])
    return ImageSet("cars196", ids[order], classes[order], root=home)


def _listed_images(path: Path, meta: Path, column: str) -> tuple[Names, Names]:
    """The images that a list names, and their classes, whose names are in `meta`."""
    from scipy.io import loadmat

    try:
        annotations = np.atleast_1d(loadmat(path, squeeze_me=True)["annotations"])
        names = loadmat(meta, squeeze_me=True)["class_names"].astype(np.str_)
        ids, numbers = annotations[column].astype(np.str_), annotations["class"].astype(np.int64)
        if numbers.min() < 1:
            raise ValueError(f"class {numbers.min()}; classes are counted from 1")
        classes = names[numbers - 1]
    except Exception as error:  # a damaged file fails in various ways
        problem = f"not the published list of CARS196: {type(error).__name__}: {error}"
        raise error_at(path, problem) from error
    return ids, classes
