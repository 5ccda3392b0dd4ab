"""A CSV, TSV, or Parquet table of images with the columns path, class, superclass, and split."""

from pathlib import Path

import numpy as np
import pandas as pd

from oodml.arrays import Names
from oodml.datasets._layout import require_files
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet

COLUMNS = ("path", "class", "superclass", "split")


def dataset(path: str | Path, root: str | Path | None = None, name: str | None = None) -> ImageSet:
    """Read the images that a table lists, sorted by path.

    Args:
        path: the table. Its columns are `path` and `class`, optionally `superclass` and `split`
            (the partition).
        root: the folder that the table's paths are relative to; by default the table's folder.
        name: the name of the dataset in results; by default the file's name.

    Raises:
        OodmlError: if a column or row is invalid.
    """
    path = Path(path).expanduser()
    base = path.parent if root is None else Path(root).expanduser()
    table = _read(path)
    for column in ("path", "class"):
        if column not in table.columns:
            given = ", ".join(map(repr, table.columns)) or "none"
            raise OodmlError(
                f"{path}: column {column!r} is missing; the columns are {given}",
                location=str(path),
                given=list(table.columns),
                allowed=COLUMNS,
            )
    columns = {column: _text(path, table, column) for column in COLUMNS if column in table}
    if not len(table):
        raise OodmlError(f"{path}: lists no images", location=str(path))
    if len(np.unique(columns["class"])) == 1:
        only = str(columns["class"][0])
        raise OodmlError(
            f"{path}: all images are in one class, {only!r}; at least two are required",
            location=str(path),
            given=only,
        )
    order = np.argsort(columns["path"], kind="stable")
    columns = {column: values[order] for column, values in columns.items()}
    require_files(path, base, columns["path"])
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
        raise OodmlError(f"{path}: not a readable table: {error}", location=str(path)) from error


def _text(path: Path, table: pd.DataFrame, column: str) -> Names:
    """A column as text; an empty cell is an error that names its row."""
    values = table[column]
    empty = np.flatnonzero(values.isna() | (values.astype(str).str.strip() == ""))
    if len(empty):
        raise OodmlError(
            f"{path}: column {column!r} is empty in row {empty[0] + 1} (counted from 1); "
            f"{len(empty)} of {len(table)} rows are empty",
            location=f"{column}, row {empty[0] + 1}",
        )
    return values.astype(str).to_numpy(dtype=np.str_)
