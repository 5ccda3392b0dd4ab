"""Tables of images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError

from .trees import grow

ROWS = {
    "path": ["b 2.png", "a.png", "c.png"],
    "class": ["NA", "007", "NA"],
    "superclass": ["x", "none", "x"],
    "split": ["test", "train", "test"],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return grow(tmp_path / "data", ROWS["path"])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_all_formats_yield_the_same_images(root: Path, suffix: str) -> None:
    path = root / f"images{suffix}"
    table = pd.DataFrame(ROWS)
    if suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    images = open_images(path)
    assert images.ids.tolist() == ["a.png", "b 2.png", "c.png"]
    assert images.classes.tolist() == ["007", "NA", "NA"]
    assert images.superclass_of == {"007": "none", "NA": "x"}
    assert images.partition is not None
    assert images.partition.tolist() == ["train", "test", "test"]
    assert images.read(0).size == (12, 10)


def test_paths_may_be_absolute_or_relative_to_another_root(tmp_path: Path, root: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"\ufeffclass,path,extra\n1,a.png,x\n2,{root / 'c.png'},y\n", encoding="utf-8")
    images = open_images(table, root=root)
    assert len(images) == 2
    assert all(images.read(row).size == (12, 10) for row in range(2))


def test_missing_values_of_parquet_are_refused(root: Path) -> None:
    for missing in (None, float("nan")):
        table = pd.DataFrame({"path": ROWS["path"], "class": ["x", "y", missing]})
        table.to_parquet(root / "t.parquet")
        with pytest.raises(OodmlError, match="row 3"):
            open_images(root / "t.parquet")


def test_the_class_may_be_called_label(root: Path) -> None:
    (root / "t.csv").write_text("label,path\nx,a.png\ny,c.png\n")
    assert open_images(root / "t.csv").class_names == ("x", "y")


def test_numbers_are_read_as_names(root: Path) -> None:
    pd.DataFrame({"path": ROWS["path"], "class": [1, 2, 1]}).to_parquet(root / "t.parquet")
    assert open_images(root / "t.parquet").class_names == ("1", "2")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("path,kind\na.png,1\n", "'class'"),
        ("", "empty"),
        ("path,class\na.png,x,\nc.png,y,\n", "line 2"),
        ("path,class\na.png,x\nc.png\n", "line 3"),
        ("path,class\na.png,x\nc.png,nan\n", "row 2"),
        ("path,class\na.png,None\nc.png,y\n", "row 1"),
        ("path,class,label\na.png,x,y\nc.png,y,x\n", "'label'"),
        ("path,class,class\na.png,x,y\nc.png,y,x\n", "'class'"),
        ("path;class\na.png;x\n", "commas"),
        ("path,class\n", "no images"),
        ("path,class\na.png,x\nc.png,\n", "'class' .* row 2"),
        ("path,class\na.png,x\nc.png,x\n", "one class"),
        ("path,class\na.png,x\nz.png,y\n", r"z\.png"),
        ("path,class\na.png,x\na.png,y\n", r"'a\.png'"),
        ("path,class,superclass\na.png,x,k\nc.png,x,l\nb 2.png,y,k\n", "superclasses"),
    ],
)
def test_invalid_tables_are_refused(root: Path, text: str, word: str) -> None:
    (root / "t.csv").write_text(text)
    with pytest.raises(OodmlError, match=word):
        open_images(root / "t.csv")


def test_a_damaged_parquet_file_is_refused(root: Path) -> None:
    (root / "t.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(OodmlError, match=r"t\.parquet"):
        open_images(root / "t.parquet")


def test_columns_of_protocols_reach_the_vectors(tmp_path: Path) -> None:
    lines = ["path,class,camera,relevance,is_query,is_gallery"]
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{i % 2},{'' if i == 5 else i // 2},{i / 2},{i < 2},{i >= 2}")
    (tmp_path / "people.csv").write_text("\n".join(lines))
    images = open_images(str(tmp_path / "people.csv"))
    vectors = embed(images.select(np.arange(5, -1, -1)), "pixels", image_size=8)
    assert vectors.attributes["camera"].tolist() == ["", "2", "1", "1", "0", "0"]
    assert vectors.attributes["relevance"].tolist() == ["2.5", "2.0", "1.5", "1.0", "0.5", "0.0"]
    assert vectors.partition is not None
    assert (vectors.partition == "query").sum() == 2
