"""A CSV, TSV, or Parquet table of images with the columns path, class, superclass, and split."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodml.arrays import Names
from oodml.datasets._layout import require_files
from oodml.errors import OodmlError, error_at
from oodml.images.image_set import ImageSet
from oodml.label_names import as_label_array, as_names, find_missing, refuse_same_names
from oodml.vector_columns import (
    ATTRIBUTES,
    CLASSES,
    LISTS,
    SUPERCLASSES,
    attribute_texts,
    parts_from_flags,
)

COLUMNS = {
    "path": ("path",),
    "class": CLASSES,
    "superclass": SUPERCLASSES,
    "split": ("split",),
    **{name: (name,) for name in (*LISTS, *ATTRIBUTES)},
}
"""The names that each column may have."""


MAX_TEXT = 100
"""Characters of a value; columns with longer values, such as captions, are not stored."""
NO_LABEL = "rows without a label"
"""The rows that `skip_unlabeled` leaves out, in `ImageSet.skipped`."""


def dataset(
    path: str | Path,
    root: str | Path | None = None,
    name: str | None = None,
    skip_unlabeled: bool = False,
    check_files: bool = True,
) -> ImageSet:
    """Read the images that a table lists, sorted by path.

    All other columns of short values are `attributes`, by which splits can be grouped or ordered.

    Args:
        path: the table. Its columns are `path` and `class`, optionally `superclass` and `split`
            (the partition), and `is_query` and `is_gallery` (what is searched when its class is
            tested); the class may be called `label`, too. The columns of
            `oodml.vector_columns.ATTRIBUTES` (`camera`, `time`, …) are for protocols of retrieval.
        root: the folder that the table's paths are relative to; by default the table's folder.
        name: the name of the dataset in results; by default the file's name.
        skip_unlabeled: leave out rows without a class or superclass, and count them in `skipped`.
        check_files: refuse a table of which an image does not exist.

    Raises:
        OodmlError: if a column or row is invalid.
    """
    path = Path(path).expanduser()
    base = path.parent if root is None else Path(root).expanduser()
    if not isinstance(skip_unlabeled, bool):
        raise OodmlError(
            f"{path}: skip_unlabeled: given {skip_unlabeled!r}; expected true or false",
            location="skip_unlabeled",
            given=skip_unlabeled,
        )
    table = _read(path)
    skipped = _drop_unlabeled(table) if skip_unlabeled else 0
    columns = _named_columns(path, table)
    refuse_same_names(columns["class"], str(path))
    if not len(columns["path"]):
        raise error_at(path, "lists no images")
    if len(np.unique(columns["class"])) == 1:
        only = str(columns["class"][0])
        problem = f"all images are in one class, {only!r}; at least two are required"
        raise error_at(path, problem, only)
    order = np.argsort(columns["path"], kind="stable")
    attributes = {name: values[order] for name, values in _further_columns(table).items()}
    columns = {column: values[order] for column, values in columns.items()}
    if check_files:
        require_files(path, base, columns["path"])
    return ImageSet(
        name or path.stem,
        columns["path"],
        columns["class"],
        columns.get("superclass"),
        root=base,
        partition=_partition(columns, path),
        skipped=((NO_LABEL, skipped),) if skip_unlabeled else (),
        attributes=attributes | {name: columns[name] for name in ATTRIBUTES if name in columns},
    )


def table_columns(path: Path, images: ImageSet) -> dict[str, Names]:
    """All columns of a table, as text, for the images that were read from it."""
    table = _read(path)
    (key,) = (name for name in table if name.strip().casefold() == "path")
    row_of = {str(name): row for row, name in enumerate(table[key].tolist())}
    rows = [row_of[name] for name in images.ids.tolist()]
    return {name: np.array([str(values[row]) for row in rows]) for name, values in table.items()}


def _drop_unlabeled(table: dict[str, NDArray[Any]]) -> int:
    """Remove the rows without a class or superclass, and return their number."""
    labels = [name for name in table if name.strip().casefold() in (*CLASSES, *SUPERCLASSES)]
    missing = [find_missing(as_label_array(table[name])) for name in labels]
    dropped = np.any(missing, axis=0) if missing else np.zeros(0, dtype=np.bool_)
    for name in table if len(dropped) else ():
        table[name] = table[name][~dropped]
    return int(dropped.sum())


def _further_columns(table: dict[str, NDArray[Any]]) -> dict[str, Names]:
    """The columns that are not in `COLUMNS`, if their values are short."""
    known = {name for names in COLUMNS.values() for name in names}
    return {
        name: attribute_texts(values)
        for name, values in table.items()
        if name.strip().casefold() not in known
        and all(np.ndim(value) == 0 and len(str(value)) <= MAX_TEXT for value in values)
    }


def _partition(columns: dict[str, Names], path: Path) -> Names | None:
    """The part of each image: the split, or its place in the lists of queries and gallery."""
    split = columns.get("split")
    if not all(name in columns for name in LISTS):
        return split
    parts = parts_from_flags({name: columns[name] for name in LISTS}, str(path))
    if split is not None:
        parts[(parts == "unlisted") & (split == "train")] = "train"
    return parts


def _named_columns(path: Path, table: dict[str, NDArray[Any]]) -> dict[str, Names]:
    """The columns of `COLUMNS` that the table has, as text."""
    columns = {}
    for column, names in COLUMNS.items():
        present = [name for name in table if name.strip().casefold() in names]
        if len(present) > 1:
            message = f"{path}: both {present[0]!r} and {present[1]!r} name the {column}; keep one"
            raise OodmlError(message, location=str(path), given=present)
        if present:
            values = table[present[0]]
            if column in ATTRIBUTES:
                columns[column] = attribute_texts(values)
            else:
                columns[column] = values if column in LISTS else _text(path, present[0], values)
        elif column in ("path", "class"):
            given = ", ".join(map(repr, table)) or "none"
            hint = "; separate columns by commas" if len(table) == 1 and ";" in given else ""
            problem = f"column {column!r} is missing; the columns are {given}{hint}"
            raise error_at(path, problem, list(table), names)
    return columns


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if path.suffix.lower() == ".parquet":
            import pandas as pd

            table = pd.read_parquet(path)
            return {str(name): table[name].to_numpy() for name in table.columns}
        text = path.read_text(encoding="utf-8-sig")
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise error_at(path, f"not a readable table: {error}") from error
    header = rows[0][1] if rows else []
    for name in header:
        if header.count(name) > 1:
            message = f"{path}: two columns are called {name!r}"
            raise OodmlError(message, location=str(path), given=name)
    for line, row in rows:
        if len(row) != len(header):
            problem = f"{path}: line {line} has {len(row)} fields, the header has {len(header)}"
            raise OodmlError(problem, f"{path}:{line}", row)
    cells = np.array([row for _, row in rows[1:]], dtype=object).reshape(-1, len(header) or 1)
    return {name: cells[:, index] for index, name in enumerate(header)}


def _text(path: Path, column: str, values: NDArray[Any]) -> Names:
    """A column as text; a missing value is an error that names its row."""
    array = as_label_array(values)
    missing = np.flatnonzero(find_missing(array))
    if len(missing):
        given = array[missing[0]]
        problem = (
            f"{path}: column {column!r} has no value in row {missing[0] + 1} (counted from 1), but "
            f"{given!r}; {len(missing)} of {len(array)} rows have none"
        )
        raise OodmlError(problem, f"{column}, row {missing[0] + 1}", given)
    return as_names(array, column, location=str(path)).astype(np.str_)
