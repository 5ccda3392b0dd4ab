"""Stanford Online Products: 120,053 photographs of 22,634 products of 12 kinds.

Oh Song, Xiang, Jegelka and Savarese, Deep Metric Learning via Lifted Structured Feature
Embedding, CVPR 2016.
"""

from pathlib import Path

from oodml.datasets._layout import first_existing, listed_images, read_rows
from oodml.errors import error_at
from oodml.images.image_set import ImageSet

HOMES = ("", "online_products/", "Stanford_Online_Products/")
HEADER = ("image_id", "class_id", "super_class_id", "path")


def dataset(root: str | Path) -> ImageSet:
    """Read the images that `Ebay_train.txt` and `Ebay_test.txt` list; the lists are the partition.

    A class is a product's number, the first part of the file name; its superclass is the kind.

    The root contains the lists, directly or in `Info_Files`, and the images, directly or in
    `images`; or all of these in a folder `online_products` or `Stanford_Online_Products`.
    """
    folders, entries = [f"{home}{folder}" for home in HOMES for folder in ("Info_Files/", "")], []
    for part in ("train", "test"):
        files = [f"{folder}Ebay_{part}.txt" for folder in folders]
        path = first_existing("online_products", root, files)
        for _, _, _, name in read_rows(path, HEADER):
            kind, slash, file = name.partition("/")
            product, underscore, _ = file.partition("_")
            if not (kind and slash and product and underscore) or "/" in file:
                problem = f"path: expected KIND_final/PRODUCT_N.JPG, given {name!r}"
                raise error_at(path, problem, name)
            entries.append((name, product, kind.removesuffix("_final"), part))
    home = path.parent.parent if path.parent.name == "Info_Files" else path.parent
    images = home / "images" if (home / "images").is_dir() else home
    return listed_images(path.parent, "online_products", images, entries)
