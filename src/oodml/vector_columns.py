"""Which columns of a file are the vectors, classes, ids, and superclasses, in every format.

Columns are identified by name, in any order and case. Without a column of `VECTORS`, the vectors
are the only column with one list of numbers per row, or columns numbered like d0, d1, ….
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oodml.arrays import as_float_array
from oodml.errors import OodmlError, error_at
from oodml.label_names import as_label_array, as_names, find_missing, missing_error

VECTORS = ("vectors", "vector", "embeddings", "embedding")
CLASSES = ("classes", "class", "labels", "label")
IDS = ("ids", "id")
SUPERCLASSES = ("superclasses", "superclass")
LISTS = ("is_query", "is_gallery")
PARTS = ("query", "gallery", "both", "unlisted")
ATTRIBUTES = ("camera", "time", "location", "sequence", "track", "junk", "relevance")
"""Columns about single images that protocols of retrieval use; values may be missing."""
DIMENSIONS = (
    "", "d", "dim", "e", "emb", "embedding", "embeddings", "f", "feat", "feature", "features",
    "v", "vec", "vector", "vectors",
)  # fmt: skip
"""Prefixes of numbered columns that are taken as the dimensions of the vectors."""
_NEVER_VECTORS = re.compile(
    r"(^|[_\W])(bbox|box|boxes|coords?|coordinates?|location|position|keypoints?|scores?|probs?|"
    r"probabilit(y|ies)|logits|ids?|tokens?|labels?|class|classes|size|shape)$"
)
"""Names of list columns that are used as vectors only on request."""

_FLAGS = {
    **dict.fromkeys(("true", "1", "1.0"), True),
    **dict.fromkeys(("false", "0", "0.0", "", "none", "nan", "<na>"), False),
}

Columns = dict[str, NDArray[Any]]


class Column(NamedTuple):
    """A column or array of a file, whose values are read on demand.

    Its kind is "matrix" (one list of numbers per row), "numbers", "text", or "other"; `about`
    describes it in errors, and `load_numbers` reads numbers where that is different.
    """

    kind: str
    load: Callable[[], Any]
    about: str
    load_numbers: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Contents:
    """What a file contains: the source is that of a file of this package; if `literal`, text such
    as "nan" is a class name; the labels of an .npy are in another file."""

    path: Path
    columns: dict[str, Column]
    source: dict[str, Any] = field(default_factory=dict)
    literal: bool = False
    labels_file: Path | None = None

    @property
    def labels_location(self) -> str:
        """The file to name in errors about labels."""
        return str(self.labels_file or self.path)

    def matches(self, names: tuple[str, ...]) -> list[str]:
        """The columns with one of these names, in any case."""
        return [name for name in self.columns if name.strip().casefold() in names]

    def labels(self, *names: str) -> NDArray[Any] | None:
        """[n] the values of the only column with one of these names, or None."""
        present = self.matches(names)
        if len(present) > 1:
            problem = f"columns {_quoted(present)} have the same meaning; remove one of them"
            raise error_at(self.labels_location, problem, present)
        return as_label_array(self.columns[present[0]].load()) if present else None


def standard_columns(
    contents: Contents,
    vectors: str | None = None,
    labels: str | None = None,
    skip_unlabeled: bool = False,
) -> tuple[Columns, dict[str, Any]]:
    """Choose and check "vectors" [n d], "classes", "ids" [n], and optionally "superclasses" [n],
    "partition" [n], and columns of `ATTRIBUTES` [n]; also return the source."""
    matrix = _choose_vectors(contents, vectors)
    n, location, source = len(matrix), contents.labels_location, dict(contents.source)
    classes = np.full(n, "unlabeled") if labels == "" else _choose_classes(contents, labels)
    chosen = {
        "classes": classes,
        "ids": contents.labels(*IDS),
        "superclasses": contents.labels(*SUPERCLASSES),
        "partition": _list_parts(contents),
    }
    for key in ATTRIBUTES:
        if any(contents.columns[name].kind != "matrix" for name in contents.matches((key,))):
            chosen[key] = attribute_texts(contents.labels(key))
    raw = {key: values for key, values in chosen.items() if values is not None}
    for key, values in raw.items():
        if values.shape != (n,):
            size = len(values) if values.ndim == 1 else list(values.shape)
            raise error_at(location, f"{size} {key} for {n} vectors", values.shape)
    if "ids" not in raw:
        raw["ids"], source["ids"] = np.arange(n), "row numbers"
    unlabeled = np.zeros(n, dtype=np.bool_)
    for key in [key for key in ("classes", "superclasses") if key in raw]:
        missing = find_missing(raw[key], literal=contents.literal)
        if missing.any() and not skip_unlabeled:
            raise missing_error(raw[key], np.flatnonzero(missing), key, location)
        unlabeled |= missing
    if unlabeled.any():
        matrix, raw = matrix[~unlabeled], {key: values[~unlabeled] for key, values in raw.items()}
        source["skipped_unlabeled"] = int(unlabeled.sum())
    for key in [key for key in raw if key not in ATTRIBUTES]:
        literal = contents.literal or key == "ids"
        raw[key] = as_names(raw[key], key, location=location, literal=literal)
    return {"vectors": matrix} | raw, source


def attribute_texts(values: Any) -> NDArray[Any]:
    """[n] the values of a column of `ATTRIBUTES` as text; "" where a value is missing."""
    array = as_label_array(values)
    texts = []
    for value in np.where(find_missing(array), "", array.astype(object)).tolist():
        whole = isinstance(value, float) and value.is_integer()
        texts.append(str(int(value) if whole else value).strip())
    return np.array(texts, dtype=np.str_)


def _list_parts(contents: Contents) -> NDArray[Any] | None:
    """[n] the part of `PARTS` of each row, if the file has lists of queries and gallery."""
    parts = contents.labels("partition")
    if parts is not None:
        return parts if parts.dtype.kind == "U" and np.isin(parts, PARTS).all() else None
    flags = {name: contents.labels(name) for name in LISTS}
    given = all(values is not None for values in flags.values())
    return parts_from_flags(flags, contents.labels_location) if given else None


def parts_from_flags(flags: Mapping[str, Any], location: str) -> NDArray[Any]:
    """[n] the part of `PARTS` of each row, from flags, also as text, in the columns of `LISTS`."""
    masks = []
    for name, values in flags.items():
        text = [str(value).strip().casefold() for value in as_label_array(values).tolist()]
        wrong = [row for row, value in enumerate(text) if value not in _FLAGS]
        if wrong:
            problem = f"row {wrong[0]} of {name!r} has {text[wrong[0]]!r}; expected true or false"
            raise error_at(location, problem, wrong[0], ("true", "false"))
        masks.append(np.array([_FLAGS[value] for value in text], dtype=np.bool_))
    queries, gallery = masks
    return np.select([queries & gallery, queries, gallery], ["both", *PARTS[:2]], PARTS[3])


def _choose_classes(contents: Contents, requested: str | None) -> NDArray[Any]:
    columns = contents.columns
    if requested is not None and requested not in columns:
        raise _column_error(contents, f"no column {requested!r}", CLASSES, requested)
    matches = contents.matches(CLASSES) if requested is None else [requested]
    if not matches:
        raise _column_error(contents, f"no labels in a column {_quoted(CLASSES, 'or')}", CLASSES)
    arrays = [as_label_array(columns[name].load()) for name in matches]
    same = len({array.shape for array in arrays}) == 1
    if same and len(arrays) > 1:  # whether all columns divide the rows into the same classes
        rows = set(zip(*(map(str, array.tolist()) for array in arrays), strict=True))
        same = all(len(set(names)) == len(rows) for names in zip(*rows, strict=True))
    if not same:
        problem = f"columns {_quoted(matches)} contain different classes"
        advice = f"choose one: `--label-column {matches[0]}`"
        raise error_at(contents.labels_location, f"{problem}; {advice}", matches)
    return arrays[0]


def _choose_vectors(contents: Contents, requested: str | None) -> NDArray[Any]:
    """The vectors by the rule of this module, or the requested column or pattern."""
    columns = contents.columns
    if requested is not None:
        if requested in columns:
            return _load_matrix(contents, requested)
        names = [name for name in columns if fnmatch.fnmatchcase(name, requested)]
        if not names:
            raise _column_error(contents, f"no column {requested!r}", VECTORS, requested)
        return _stack_dimensions(contents, names)
    matches = contents.matches(VECTORS) or [
        name
        for name, column in columns.items()
        if column.kind == "matrix" and not _NEVER_VECTORS.search(name.casefold())
    ]
    families = [] if matches else _dimension_families(columns)
    if len(matches) == 1:
        return _load_matrix(contents, matches[0])
    if len(families) == 1:
        return _stack_dimensions(contents, families[0])
    reason = f"no vectors in a column {_quoted(VECTORS, 'or')} with one list per row"
    if first := matches or [names[0] for names in families]:
        groups = "" if matches else "the groups of columns that start with "
        reason = f"{groups}{_quoted(first)} may all be the vectors"
    raise _column_error(contents, reason, VECTORS, first or None)


def _dimension_families(columns: Mapping[str, Column]) -> list[list[str]]:
    """Groups of at least two numeric columns with a prefix of `DIMENSIONS` and a number."""
    families: dict[str, list[str]] = {}
    for name, column in columns.items():
        match = re.fullmatch(r"(.*?)[_\-. ]?(\d+)", name.strip())
        if match and column.kind == "numbers" and match[1].casefold() in DIMENSIONS:
            families.setdefault(match[1].casefold(), []).append(name)
    return [names for names in families.values() if len(names) > 1]


def _stack_dimensions(contents: Contents, names: list[str]) -> NDArray[Any]:
    """One column per dimension, in the order of their numbers, none of which may be missing."""
    numbers = [int(end[1]) for name in names if (end := re.search(r"(\d+)\s*$", name))]
    if len(numbers) == len(names):
        names = [names[i] for i in np.argsort(numbers, kind="stable")]
        first = min(*numbers, 1) if len(numbers) > 1 else numbers[0]
        if missing := sorted({*range(first, first + len(names))} - {*numbers}):
            problem = f"columns {names[0]!r} to {names[-1]!r} are not all dimensions"
            raise error_at(contents.path, f"{problem}; number {missing[0]} is missing", missing[0])
    for name in names:
        if contents.columns[name].kind != "numbers":
            problem = f"column {name!r} has {contents.columns[name].about}, not one number per row"
            raise error_at(contents.path, problem, name)
    return np.stack([_load_floats(contents, name) for name in names], axis=1)


def _load_matrix(contents: Contents, name: str) -> NDArray[Any]:
    column = contents.columns[name]
    if column.kind != "matrix":
        problem = f"{name!r} must have one list of numbers per row; it has {column.about}"
        raise error_at(contents.path, problem, name)
    array = _load_floats(contents, name)
    if array.ndim != 2:
        problem = f"{name!r} must be [n d]; given {list(array.shape)}"
        raise error_at(contents.path, problem, array.shape)
    return array


def _load_floats(contents: Contents, name: str) -> NDArray[Any]:
    column = contents.columns[name]
    try:
        return as_float_array((column.load_numbers or column.load)(), name)
    except OodmlError as error:
        if error.location == str(contents.path):
            raise
        raise error_at(contents.path, str(error), error.given) from error


def _column_error(
    contents: Contents, reason: str, allowed: tuple[str, ...], given: Any = None
) -> OodmlError:
    """The error that lists the columns of the file and the remedy."""
    columns = contents.columns
    path = contents.path if allowed == VECTORS else Path(contents.labels_location)
    listed = ", ".join(f"{name!r} ({column.about})" for name, column in columns.items())
    npy = path.with_suffix(".npy")
    if len(columns) == 1 and re.search(r"[;\t|]", next(iter(columns))):
        hint = "Separate the columns by commas."
    elif allowed == CLASSES:
        hint = "Choose one with `--label-column COLUMN`."
    elif path.suffix.lower() == ".csv" and npy.exists():
        hint = f"Did you mean {npy.name}?"
    else:
        hint = "Choose one with `--vector-column NAME`, or several, such as 'PREFIX*'."
    problem = f"{reason}; it has {listed or 'no columns'}. {hint}"
    return error_at(path, problem, list(columns) if given is None else given, allowed)


def _quoted(names: Iterable[str], word: str = "and") -> str:
    *first, last = map(repr, names)
    comma = "," if len(first) > 1 else ""
    return f"{', '.join(first)}{comma} {word} {last}" if first else last
