"""The paper's datasets, in miniature folders of their layouts."""

from pathlib import Path

import pytest

from oodml.datasets import open_images
from oodml.errors import OodmlError

from .trees import grow

CUB = ["001.Black_footed_Albatross/a_0001_1.jpg", "002.Laysan_Albatross/b_0002_2.jpg"]
CARS = ["AM General Hummer SUV 2000/00462.jpg", "Acura RL Sedan 2012/00128.jpg"]
PRODUCTS = {
    "train": ["bicycle_final/111085122871_0.JPG", "bicycle_final/111085122871_1.JPG"],
    "test": ["chair_final/222_0.JPG", "chair_final/333_0.JPG"],
}
CLOTHES = [
    ("img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "id_00000002", "train"),
    ("img/MEN/Denim/id_00000080/01_1_front.jpg", "id_00000080", "query"),
    ("img/MEN/Denim/id_00000080/01_2_side.jpg", "id_00000080", "gallery"),
]


@pytest.mark.parametrize("home", ["images", "cub200/images", "CUB_200_2011/images"])
def test_cub200(tmp_path: Path, home: str) -> None:
    grow(tmp_path / home, CUB)
    images = open_images("cub200", root=tmp_path)
    assert images.ids.tolist() == CUB
    assert images.class_names == ("001.Black_footed_Albatross", "002.Laysan_Albatross")


def test_cars196(tmp_path: Path) -> None:
    grow(tmp_path / "cars196" / "images", CARS)
    images = open_images("cars196", root=str(tmp_path))
    assert images.ids.tolist() == CARS
    assert images.class_names == ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")


def test_cars196_with_train_and_test_folders(tmp_path: Path) -> None:
    folder = tmp_path / "car_data" / "car_data"
    grow(folder, ["train/Acura RL/1.jpg", "test/Acura RL/2.jpg", "test/BMW/1.jpg"])
    images = open_images("cars196", root=tmp_path)
    assert images.classes.tolist() == ["Acura RL", "BMW", "Acura RL"]


def test_images_outside_class_folders_are_refused(tmp_path: Path) -> None:
    grow(tmp_path / "images", [*CUB, "stray.jpg"])
    with pytest.raises(OodmlError, match=r"stray\.jpg"):
        open_images("cub200", root=tmp_path)


def test_the_error_of_an_empty_root_lists_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(OodmlError) as error:
        open_images("cub200", root=tmp_path)
    assert error.value.allowed == ("images", "cub200/images", "CUB_200_2011/images")


def write_products(lists: Path, header: str = "image_id class_id super_class_id path") -> None:
    lists.mkdir(parents=True, exist_ok=True)
    for part, names in PRODUCTS.items():
        lines = [f"{row + 1} {row // 2 + 1} 1 {name}" for row, name in enumerate(names)]
        (lists / f"Ebay_{part}.txt").write_text("\n".join([header, *lines]) + "\n")


@pytest.mark.parametrize(
    ("lists", "pictures"),
    [
        ("online_products/Info_Files", "online_products/images"),
        ("Info_Files", "images"),
        ("Stanford_Online_Products", "Stanford_Online_Products"),
    ],
)
def test_online_products(tmp_path: Path, lists: str, pictures: str) -> None:
    grow(tmp_path / pictures, [*PRODUCTS["train"], *PRODUCTS["test"]])
    write_products(tmp_path / lists)
    images = open_images("online_products", root=tmp_path)
    assert images.ids.tolist() == [*PRODUCTS["train"], *PRODUCTS["test"]]
    assert images.classes.tolist() == ["111085122871", "111085122871", "222", "333"]
    assert images.superclass_of == {"111085122871": "bicycle", "222": "chair", "333": "chair"}
    assert images.partition is not None
    assert images.partition.tolist() == ["train", "train", "test", "test"]
    assert images.read(0).size == (12, 10)


def test_errors_of_online_products_name_the_line(tmp_path: Path) -> None:
    grow(tmp_path, [*PRODUCTS["train"], *PRODUCTS["test"]])
    write_products(tmp_path, header="image class path")
    with pytest.raises(OodmlError, match="line 1: "):
        open_images("online_products", root=tmp_path)
    write_products(tmp_path)
    with (tmp_path / "Ebay_test.txt").open("a") as stream:
        stream.write("5 3 1\n")
    with pytest.raises(OodmlError, match="line 4: .*'5 3 1'"):
        open_images("online_products", root=tmp_path)
    write_products(tmp_path)
    (tmp_path / PRODUCTS["test"][0]).unlink()
    with pytest.raises(OodmlError, match=r"chair_final/222_0\.JPG"):
        open_images("online_products", root=tmp_path)


def write_clothes(path: Path, rows: list[tuple[str, str, str]] = CLOTHES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [str(len(rows)), "image_name item_id evaluation_status"]
    lines += ["    ".join(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("eval_list", "pictures"),
    [
        ("list_eval_partition.txt", ""),
        ("in-shop/Eval/list_eval_partition.txt", "in-shop"),
        ("inshop/Eval/list_eval_partition.txt", "inshop/Img"),
    ],
)
def test_inshop(tmp_path: Path, eval_list: str, pictures: str) -> None:
    grow(tmp_path / pictures, [name for name, _, _ in CLOTHES])
    write_clothes(tmp_path / eval_list)
    images = open_images("inshop", root=tmp_path)
    assert images.classes.tolist() == ["id_00000080", "id_00000080", "id_00000002"]
    assert images.superclass_of == {"id_00000080": "MEN/Denim", "id_00000002": "WOMEN/Dresses"}
    assert images.partition is not None
    assert images.partition.tolist() == ["query", "gallery", "train"]


@pytest.mark.parametrize(
    ("row", "given"),
    [
        (("img/MEN/Denim/id_1/a.jpg", "id_1", "val"), "val"),
        (("img/a.jpg", "id_1", "train"), "img/a.jpg"),
    ],
)
def test_invalid_rows_of_inshop_are_refused(
    tmp_path: Path, row: tuple[str, str, str], given: str
) -> None:
    write_clothes(tmp_path / "list_eval_partition.txt", [*CLOTHES, row])
    with pytest.raises(OodmlError, match="list_eval_partition") as error:
        open_images("inshop", root=tmp_path)
    assert error.value.given == given
