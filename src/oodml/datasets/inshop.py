"""In-shop Clothes Retrieval: 52,712 photographs of 7,982 garments, with query and gallery lists.

Liu, Luo, Qiu, Wang and Tang, DeepFashion, CVPR 2016.
"""

from pathlib import Path

from oodml.datasets._layout import first_present, listed, rows
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

HOMES = ("", "inshop/", "in-shop/")
HEADER = ("image_name", "item_id", "evaluation_status")
PARTS = ("train", "query", "gallery")


def dataset(root: str | Path) -> ImageSet:
    """The images that `list_eval_partition.txt` lists: train, query or gallery.

    The list lies in `root` or `root/Eval`, the images under `root/img` or `root/Img/img`. A
    class is the garment's id, a superclass its department and kind, as in "WOMEN/Dresses".
    """
    path = first_present(
        "inshop",
        root,
        [f"{home}{folder}list_eval_partition.txt" for home in HOMES for folder in ("", "Eval/")],
    )
    home = path.parent.parent if path.parent.name == "Eval" else path.parent
    images = home if (home / "img").is_dir() else home / "Img"
    entries = rows(path, HEADER, skip=1)
    kinds: dict[str, str] = {}
    for name, item, part in entries:
        if part not in PARTS:
            raise OodmlError(f"{path}: {name}: status {part!r}; allowed: {', '.join(PARTS)}")
        if name.count("/") != 4:
            raise OodmlError(
                f"{path}: an image must be img/DEPARTMENT/KIND/ID/FILE; given {name!r}"
            )
        kinds.setdefault(item, "/".join(name.split("/")[1:3]))
    return listed(
        path, "inshop", images, [(name, item, kinds[item], part) for name, item, part in entries]
    )
