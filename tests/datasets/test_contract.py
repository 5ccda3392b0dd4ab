"""The contract of datasets, on a miniature folder of each."""

from pathlib import Path
from typing import Any

import pytest

import oodml
from oodml.checks import check

from .trees import grow

PRODUCTS = [f"chair_final/{item}_{view}.JPG" for item in (1, 2) for view in (0, 1)]
CLOTHES = [f"img/MEN/Denim/id_{item}/0{view}_front.jpg" for item in (1, 2) for view in (1, 2)]
PLAIN = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]


def online_products(root: Path) -> dict[str, Any]:
    grow(root, PRODUCTS)
    rows = [f"{row + 1} {row // 2 + 1} 1 {name}" for row, name in enumerate(PRODUCTS)]
    for part, lines in (("train", rows[:2]), ("test", rows[2:])):
        text = "\n".join(["image_id class_id super_class_id path", *lines])
        (root / f"Ebay_{part}.txt").write_text(text + "\n")
    return {"root": str(root)}


def inshop(root: Path) -> dict[str, Any]:
    grow(root, CLOTHES)
    rows = [f"{name} {Path(name).parts[-2]} train" for name in CLOTHES]
    text = "\n".join([str(len(rows)), "image_name item_id evaluation_status", *rows])
    (root / "list_eval_partition.txt").write_text(text + "\n")
    return {"root": str(root)}


def table(root: Path) -> dict[str, Any]:
    grow(root, PLAIN)
    rows = [f"{name},{name[0]}" for name in PLAIN]
    (root / "photos.csv").write_text("\n".join(["path,class", *rows]) + "\n")
    return {"path": str(root / "photos.csv")}


def huggingface(root: Path) -> dict[str, Any]:
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    return {"name": str(grow(root / "animals", [f"train/{name}" for name in PLAIN]))}


BUILT = {
    "cars196": lambda root: {"root": str(grow(root / "images", PLAIN).parent)},
    "cub200": lambda root: {"root": str(grow(root / "images", PLAIN).parent)},
    "emoji": lambda root: {},
    "folder": lambda root: {"root": str(grow(root, PLAIN))},
    "glyphs": lambda root: {},
    "huggingface": huggingface,
    "inshop": inshop,
    "online_products": online_products,
    "table": table,
}
"""Functions that write a miniature of a dataset and return the options to open it."""


@pytest.mark.parametrize("name", oodml.names("datasets"))
def test_requirements(name: str, tmp_path: Path) -> None:
    assert name in BUILT, "add a miniature of the new dataset to BUILT"
    results = check(name, "datasets", BUILT[name](tmp_path))
    assert [one for one in results if one.failed or "docstring" in one.problem] == []
