"""In-shop Clothes Retrieval: 52,712 photographs of 7,982 garments, with query and gallery lists.

Liu, Luo, Qiu, Wang and Tang, DeepFashion, CVPR 2016.
"""

from pathlib import Path

from oodml.datasets._layout import first_existing, listed_images, read_rows
from oodml.errors import error_at, unknown
from oodml.images.image_set import ImageSet

HOMES = ("", "inshop/", "in-shop/")
HEADER = ("image_name", "item_id", "evaluation_status")
PARTS = ("train", "query", "gallery")


def dataset(root: str | Path) -> ImageSet:
    """Read the images that `list_eval_partition.txt` lists as train, query, or gallery.

    A class is a garment's id; its superclass is department and kind, such as "WOMEN/Dresses".
    The root contains the list, directly or in `Eval`, and the images, in `img` or `Img/img`.
    """
    folders = [f"{home}{folder}" for home in HOMES for folder in ("", "Eval/")]
    path = first_existing("inshop", root, [f"{one}list_eval_partition.txt" for one in folders])
    home = path.parent.parent if path.parent.name == "Eval" else path.parent
    images = home if (home / "img").is_dir() else home / "Img"
    kinds: dict[str, str] = {}
    entries = []
    for name, item, part in read_rows(path, HEADER, skip=1):
        if part not in PARTS:
            raise unknown("evaluation_status", part, PARTS, f"{path}: {name}")
        if name.count("/") != 4:
            problem = f"image_name: expected img/DEPARTMENT/KIND/ID/FILE, given {name!r}"
            raise error_at(path, problem, name)
        entries.append((name, item, kinds.setdefault(item, "/".join(name.split("/")[1:3])), part))
    return listed_images(path, "inshop", images, entries)
