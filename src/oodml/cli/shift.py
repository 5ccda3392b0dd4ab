"""`oodml shift`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from oodml.shift.measures import ShiftReport
    from oodml.vectors import VectorSet


def shift(
    a: Annotated[
        str | None, typer.Argument(help="What was trained on: a data set, a folder, or vectors.")
    ] = None,
    b: Annotated[str | None, typer.Argument(help="What is new: the same.")] = None,
    splits: Annotated[Path | None, typer.Option(help="A file of splits, instead of A B.")] = None,
    step: Annotated[str | None, typer.Option(help="The split's step (default the last).")] = None,
    vectors: Annotated[Path | None, typer.Option(help="A file of vectors for --splits.")] = None,
    data: Annotated[str | None, typer.Option(help="Data for --splits instead.")] = None,
    backbone: Annotated[str, typer.Option(help="The frozen network for images.")] = "lite0",
    measure: Annotated[
        list[str] | None, typer.Option(help="A measure; may be repeated. All by default.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Draws for the intervals; 0 for none.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How far is B from A? Two folders, two files of vectors, or the two sides of a split.

    Example: `oodml shift train_photos/ new_catalogue/`
    """
    from oodml.errors import OodmlError
    from oodml.shift.measures import shift_report

    if splits is not None:
        if a is not None:
            raise OodmlError("give A and B, or --splits, not both")
        first, second = _sides(splits, step, vectors, data, backbone)
    elif a is None or b is None:
        raise OodmlError("give A and B, two folders or files of vectors, or --splits")
    else:
        first, second = _opened(a, backbone), _opened(b, backbone)
    report = shift_report(first, second, measure or None, n_bootstrap=bootstrap, seed=seed)
    if json:
        from json import dumps

        print(dumps(report.as_dict(), indent=1, ensure_ascii=False))
        return
    _print(report)


COMMANDS = (shift,)


def _opened(name: str, backbone: str) -> "VectorSet":
    from oodml.vector_files import SUFFIXES
    from oodml.vectors import VectorSet

    path = Path(name)
    # A table of images is a .parquet too; one with vectors is told by its columns.
    if path.suffix in SUFFIXES and path.is_file() and not _is_table_of_images(path):
        return VectorSet.load(path)
    from oodml.datasets import open_images
    from oodml.embedding import embed

    return embed(open_images(name), backbone)


def _is_table_of_images(path: Path) -> bool:
    if path.suffix != ".parquet":
        return False
    from pyarrow.parquet import read_schema

    return "path" in read_schema(path).names


def _sides(
    splits: Path, step: str | None, vectors: Path | None, data: str | None, backbone: str
) -> tuple["VectorSet", "VectorSet"]:
    from oodml.errors import OodmlError
    from oodml.shift.files import read_splits
    from oodml.vectors import VectorSet

    progression = read_splits(splits)
    split = progression[-1] if step is None else progression.at(step)
    if vectors is not None:
        features = VectorSet.load(vectors)
    elif data is not None:
        features = _opened(data, backbone)
    else:
        raise OodmlError("--splits needs --vectors, a file, or --data")
    return features.subset(split.train), features.subset(split.test)


def _print(report: "ShiftReport") -> None:
    from rich.console import Console
    from rich.table import Table

    images, classes = report.images, report.classes
    table = Table(
        title=f"A: {images[0]} images of {classes[0]} classes, "
        f"B: {images[1]} images of {classes[1]} classes",
        caption="95% intervals over classes; by chance: the classes of A and B dealt anew",
    )
    for column in ("measure", "value", "interval", "by chance"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    table.add_column("note", style="dim")
    for shift in report:
        interval = "" if shift.low is None else f"{shift.low:.4g} … {shift.high:.4g}"
        chance = "" if shift.chance is None else f"{shift.chance:.4g}"
        table.add_row(shift.measure, f"{shift.value:.4g}", interval, chance, shift.note)
    Console().print(table)
