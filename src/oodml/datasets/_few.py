"""Reduce a dataset to a few classes, and generate miniatures of datasets for smoke tests."""

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from oodml.errors import unknown
from oodml.files import replacing, write_text
from oodml.images.image_set import ImageSet

MINIATURES = ("cars196", "cub200", "online_products")
N_KINDS = 4


def reduce_images(images: ImageSet, n_classes: int, per_class: int) -> ImageSet:
    """The first images of some classes, drawn from all superclasses and parts in turn."""
    order = np.argsort(images.ids, kind="stable")
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    first = dict(zip(images.classes[order][::-1].tolist(), order[::-1].tolist(), strict=True))
    for name in images.class_names:
        part = "" if images.partition is None else str(images.partition[first[name]])
        groups[images.superclass_of.get(name, ""), part].append(name)
    turns = itertools.zip_longest(*(groups[key] for key in sorted(groups)))
    chosen = [name for turn in turns for name in turn if name is not None][:n_classes]
    rows = [order[images.classes[order] == name][:per_class] for name in sorted(chosen)]
    return images.select(np.sort(np.concatenate(rows)))


def write_miniature(name: str, root: Path, n_classes: int = 24, per_class: int = 6) -> Path:
    """Write generated images in the layout of a dataset, and return the root folder."""
    if name not in MINIATURES:
        raise unknown("dataset with a miniature", name, MINIATURES)
    header = "image_id class_id super_class_id path"
    lists = {"train": [header], "test": [header]}
    for label, index in itertools.product(range(n_classes), range(per_class)):
        path, kind = f"{label + 1:03d}.class/{index}.jpg", label % N_KINDS
        if name == "online_products":
            path = f"kind{kind}_final/{label:06d}_{index}.JPG"
            row = f"{label * per_class + index + 1} {label + 1} {kind + 1} {path}"
            lists["train" if label < n_classes // 2 else "test"].append(row)
        _draw(root / "images" / path, label, index)
    for part in lists if name == "online_products" else ():
        write_text(root / "Info_Files" / f"Ebay_{part}.txt", "\n".join(lists[part]) + "\n")
    return root


def _draw(path: Path, label: int, index: int, size: int = 48) -> None:
    if path.exists():
        return
    colors = np.random.default_rng(label).integers(0, 256, (2, 3))
    random = np.random.default_rng([label, index])
    stripes = (np.arange(size) + random.integers(size)) // (3 + label % 5) % 2
    pixels = np.broadcast_to(colors[stripes][:, None], (size, size, 3))
    noisy = pixels + random.normal(0, 25, (size, size, 3))
    with replacing(path) as temporary:
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(temporary, "JPEG", quality=90)
