"""A CSV, TSV, or Parquet table of images with the columns path, class, superclass, and split."""

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
from oodml.vector_files import read_table

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

Table = dict[str, NDArray[Any]]


def dataset(
    path: str | Path,
    root: str | Path | None = None,
    name: str | None = None,
    skip_unlabeled: bool = False,
    check_files: bool = True,
) -> ImageSet:
    """Read the images that a table lists, sorted by path.

    Args:
        path: the table. Its columns are `path` and `class` (or `label`), optionally `superclass`,
            `split` (the partition), `is_query` and `is_gallery`, and those of
            `oodml.vector_columns.ATTRIBUTES`. Others with short values become `attributes`.
        root, name: the folder of the images, and the dataset's name; by default those of the table.
        skip_unlabeled: leave out rows without a class or superclass, and count them in `skipped`.
        check_files: refuse a table of which an image does not exist.

    Raises:
        OodmlError: if a column or row is invalid.
    """
    path = Path(path).expanduser()
    base = path.parent if root is None else Path(root).expanduser()
    if not isinstance(skip_unlabeled, bool):
        problem = f"{path}: skip_unlabeled: given {skip_unlabeled!r}; expected true or false"
        raise OodmlError(problem, "skip_unlabeled", skip_unlabeled)
    table = _read(path)
    n_rows = len(next(iter(table.values()))) if table else 0
    if skip_unlabeled:
        labels = [name for name in table if name.strip().casefold() in (*CLASSES, *SUPERCLASSES)]
        missing = [find_missing(as_label_array(table[name])) for name in labels]
        dropped = np.any([np.zeros(n_rows, dtype=np.bool_), *missing], axis=0)
        table = {name: values[~dropped] for name, values in table.items()}
    columns = _named_columns(path, table)
    if not (n := len(columns["path"])):
        raise error_at(path, "lists no images")
    refuse_same_names(columns["class"], str(path), allow_one=False)
    attributes = _short_columns(table)
    attributes |= {name: columns.pop(name) for name in ATTRIBUTES if name in columns}
    if check_files:
        require_files(path, base, np.sort(columns["path"]))
    rows = columns["path"], columns["class"], columns.get("superclass")
    more: Any = {"attributes": attributes, "partition": _partition(columns, str(path))}
    more["skipped"] = ((NO_LABEL, n_rows - n),) if skip_unlabeled else ()
    images = ImageSet(name or path.stem, *rows, root=base, **more)
    return images.select(np.argsort(images.ids, kind="stable"))


def _partition(columns: Table, location: str) -> Names | None:
    """The place in the lists of queries and gallery, if there are any, or else the split."""
    split = columns.get("split")
    if not all(name in columns for name in LISTS):
        return split
    parts = parts_from_flags({name: columns[name] for name in LISTS}, location)
    if split is not None:
        parts[(parts == "unlisted") & (split == "train")] = "train"
    return parts


def _short_columns(table: Table) -> dict[str, Names]:
    """The columns that are not in `COLUMNS`, if their values are short."""
    known = {name for names in COLUMNS.values() for name in names}
    return {
        name: attribute_texts(values)
        for name, values in table.items()
        if name.strip().casefold() not in known
        and all(np.ndim(value) == 0 and len(str(value)) <= MAX_TEXT for value in values)
    }


def table_columns(path: Path, images: ImageSet) -> dict[str, Names]:
    """All columns of a table, as text, for the images that were read from it."""
    table = _read(path)
    (key,) = (name for name in table if name.strip().casefold() == "path")
    row_of = {str(name): row for row, name in enumerate(table[key].tolist())}
    rows = [row_of[name] for name in images.ids.tolist()]
    return {name: np.array([str(values[row]) for row in rows]) for name, values in table.items()}


def _named_columns(path: Path, table: Table) -> dict[str, Names]:
    """The columns of `COLUMNS` that the table has, as text."""
    columns = {}
    for column, names in COLUMNS.items():
        present = [name for name in table if name.strip().casefold() in names]
        if len(present) > 1:
            problem = f"both {present[0]!r} and {present[1]!r} name the {column}; keep one"
            raise error_at(path, problem, present)
        if not present and column in ("path", "class"):
            given = ", ".join(map(repr, table)) or "none"
            hint = "; separate columns by commas" if len(table) == 1 and ";" in given else ""
            problem = f"column {column!r} is missing; the columns are {given}{hint}"
            raise error_at(path, problem, list(table), names)
        for name in present:
            values = table[name]
            if column in ATTRIBUTES:
                columns[column] = attribute_texts(values)
            else:
                columns[column] = values if column in LISTS else _text(path, name, values)
    return columns


def _read(path: Path) -> Table:
    try:
        if path.suffix.lower() == ".parquet":
            import pandas as pd

            table = pd.read_parquet(path)
            return {str(name): table[name].to_numpy() for name in table.columns}
        columns = read_table(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    except OodmlError:
        raise
    except (OSError, ValueError) as error:
        raise error_at(path, f"not a readable table: {error}") from error
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


def _text(path: Path, column: str, values: NDArray[Any]) -> Names:
    """A column as text; a missing value is an error that names its row."""
    array = as_label_array(values)
    missing = np.flatnonzero(find_missing(array))
    if len(missing):
        row, given = int(missing[0]) + 1, array[missing[0]]
        what = f"column {column!r} has no value in row {row} (counted from 1), but {given!r}"
        problem = f"{path}: {what}; {len(missing)} of {len(array)} rows have none"
        raise OodmlError(problem, f"{column}, row {row}", given)
    return as_names(array, column, location=str(path)).astype(np.str_)
