"""A CSV or Parquet table of images: columns path and class, if wanted superclass and split."""

from pathlib import Path

import numpy as np
import pandas as pd

from oodml.arrays import Names
from oodml.datasets._layout import present
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

COLUMNS = ("path", "class", "superclass", "split")


def dataset(path: str | Path, root: str | Path | None = None, name: str | None = None) -> ImageSet:
    """The images that a table lists, sorted by path.

    path: of the table. name: of the set in results; by default the file's.
    root: what the table's paths are relative to; by default the table's own folder. `split`
    becomes the partition. Raises `OodmlError` naming the column or row that is wrong.
    """
    path = Path(path).expanduser()
    base = path.parent if root is None else Path(root).expanduser()
    table = _read(path)
    for column in ("path", "class"):
        if column not in table.columns:
            found = ", ".join(map(repr, table.columns)) or "none"
            raise OodmlError(f"{path}: needs a column {column!r}; its columns are {found}")
    columns = {column: _text(path, table, column) for column in COLUMNS if column in table}
    if not len(table):
        raise OodmlError(f"{path}: lists no images")
    if len(np.unique(columns["class"])) == 1:
        raise OodmlError(
            f"{path}: all images are of one class, {str(columns['class'][0])!r}; give two or more"
        )
    order = np.argsort(columns["path"], kind="stable")
    columns = {column: values[order] for column, values in columns.items()}
    present(path, base, columns["path"])
    return ImageSet(
        name or path.stem,
        columns["path"],
        columns["class"],
        columns.get("superclass"),
        root=base,
        partition=columns.get("split"),
    )


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:
        raise OodmlError(f"{path}: not a readable table: {error}") from error


def _text(path: Path, table: pd.DataFrame, column: str) -> Names:
    """A column as text; an empty cell is an error that names its row."""
    values = table[column]
    empty = np.flatnonzero(values.isna() | (values.astype(str).str.strip() == ""))
    if len(empty):
        raise OodmlError(
            f"{path}: column {column!r} is empty in row {empty[0] + 1} (the first is 1); "
            f"{len(empty)} of {len(table)} rows are so"
        )
    return values.astype(str).to_numpy(dtype=np.str_)
