"""Labels of any type as text, and rows that each have a class: image sets and vector sets."""

import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from oodml.arrays import Names
from oodml.errors import OodmlError, error_at
from oodml.progress import count_noun

MISSING_TEXT = ("nan", "NaN", "None", "null", "<NA>", "NaT")
"""Text that programs write for a missing label."""


def as_names(values: Any, name: str = "labels", location: str = "", literal: bool = False) -> Names:
    """Convert [n] labels to text: whole floats lose their ".0", bytes are decoded as UTF-8; text
    such as "nan" is a missing label unless it is literal."""
    array = as_label_array(values)
    missing = np.flatnonzero(find_missing(array, literal=literal))
    if len(missing):
        raise missing_error(array, missing, name, location)
    if array.dtype.kind in "iub":
        return array.astype(np.str_)
    values = array.tolist() if len(array) else []
    texts = values if array.dtype.kind == "U" else [_as_text(value) for value in values]
    for row, text in enumerate(texts):
        if text is None or "\0" in text:
            where = f"{location}: {name}" if location else name
            problem = f"{where} must be text or whole numbers; row {row} has {values[row]!r}"
            raise OodmlError(problem, location or name, row)
    return array if array.dtype.kind == "U" else np.array(texts, dtype=np.str_)


def _as_text(value: Any) -> str | None:
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode("utf-8")
        return None
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int) else None


def as_label_array(values: Any) -> NDArray[Any]:
    """[n] labels as an array without changes; masked entries become None, [n 1] becomes [n]."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if np.ma.is_masked(values):
        mask, values = np.ma.getmaskarray(values), np.asarray(values).astype(object)
        values[mask] = None
    is_list = isinstance(values, list | tuple)
    if is_list and any(not isinstance(one, str) or "\0" in one for one in values):
        array: NDArray[Any] = np.empty(len(values), dtype=object)
        for row, value in enumerate(values):  # numpy would turn None into text and drop "\0"
            array[row] = value
    else:
        array = np.asarray(values)
    return array.reshape(len(array)) if array.ndim == 2 and array.size == len(array) else array


def find_missing(values: NDArray[Any], *, literal: bool = False) -> NDArray[np.bool_]:
    """[n] which labels are missing: NaN, None, blank, or (unless literal) text such as "nan"."""
    if values.dtype.kind == "O":
        flags = [_is_missing(value, literal) for value in values]
        return np.array(flags, dtype=np.bool_).reshape(len(values))
    if values.dtype.kind in "fcMm":
        return np.asarray(np.isnat(values) if values.dtype.kind in "Mm" else np.isnan(values))
    if values.dtype.kind not in "US" or not len(values):
        return np.zeros(len(values), dtype=np.bool_)
    text = values if values.dtype.kind == "U" else np.char.decode(values, "latin-1")
    blank = (text == "") | np.char.isspace(text)
    return np.asarray(blank if literal else blank | np.isin(text, MISSING_TEXT))


def _is_missing(value: Any, literal: bool) -> bool:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return not value.strip() or (not literal and value in MISSING_TEXT)
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating | np.datetime64) and bool(value != value)


def missing_error(values: NDArray[Any], rows: NDArray[Any], name: str, location: str) -> OodmlError:
    """The error for rows without a label, which names the first one and the remedy."""
    first = values[rows[0]]
    plain = first.item() if isinstance(first, np.generic) else first
    prefix = f"{location}: " if location else ""
    remedy = "" if name == "ids" else " `--skip-unlabeled` excludes such rows of a file."
    if isinstance(first, str) and first in MISSING_TEXT:
        remedy += f" Rename the class if {str(first)!r} is its name."
    problem = f"row {int(rows[0])} has no value in {name} ({plain!r})"
    count = f"{len(rows)} of {len(values)} rows have none"
    return OodmlError(f"{prefix}{problem}; {count}.{remedy}", location or name, int(rows[0]))


def look_alikes(names: Iterable[str], others: Iterable[str]) -> Mapping[str, str]:
    """Pairs of different names that look the same to a person: equal after Unicode normalization,
    without surrounding space, ignoring case, or as numbers ("1" and "1.0")."""
    other_names = set(others)
    folded = {_fold(other): other for other in sorted(other_names)}
    candidates = sorted(set(names) - other_names)
    return {name: folded[_fold(name)] for name in candidates if _fold(name) in folded}


def _fold(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).strip().casefold()
    with suppress(ValueError):
        number = float(text)
        return str(int(number)) if number.is_integer() else str(number)
    return text


def refuse_same_names(names: Iterable[str], location: str, allow_one: bool = True) -> None:
    """Refuse class names that differ only in Unicode normalization or in surrounding space, and
    optionally a single class."""
    first: dict[str, str] = {}
    distinct = sorted({str(name) for name in names})
    if len(distinct) == 1 and not allow_one:
        problem = f"all images are in one class, {distinct[0]!r}; at least two are required"
        raise error_at(location, problem, distinct[0])
    for name in distinct:
        other = first.setdefault(unicodedata.normalize("NFC", name).strip(), name)
        if other != name:
            problem = f"the classes {other!a} and {name!a} look the same; they differ only in"
            what = "surrounding space or Unicode normalization (NFC, NFD). Rename one of them."
            raise error_at(location, f"{problem} {what}", name)


Rows = NDArray[np.int64] | NDArray[np.bool_]
"""Positions of rows, or a mask over all rows."""


class Labeled:
    """A mixin for frozen dataclasses with one class, and optionally a superclass, per row."""

    classes: Names
    superclasses: Names | None
    attributes: Mapping[str, Names]
    PER_ROW: ClassVar[tuple[str, ...]] = ("classes", "superclasses")

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The distinct classes, sorted."""
        return tuple(np.unique(self.classes).tolist())

    def describe_classes(self) -> str:
        groups = len(set(self.superclass_of.values()))
        classes = count_noun(len(self.class_names), "class")
        return classes + f", {count_noun(groups, 'superclass')}" * bool(groups)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[n] the index of each row's class in `class_names`."""
        return np.searchsorted(np.asarray(self.class_names), self.classes)

    @cached_property
    def superclass_of(self) -> dict[str, str]:
        """The superclass of each class; empty without superclasses."""
        if self.superclasses is None:
            return {}
        return dict(zip(self.classes.tolist(), self.superclasses.tolist(), strict=True))

    def select(self, rows: Rows) -> Self:
        """The given rows, in the given order."""
        present = [name for name in self.PER_ROW if getattr(self, name) is not None]
        chosen: dict[str, Any] = {name: getattr(self, name)[rows] for name in present}
        chosen["attributes"] = {name: values[rows] for name, values in self.attributes.items()}
        return replace(self, **chosen)  # type: ignore[type-var]

    def subset(self, classes: Iterable[str]) -> Self:
        """The rows of the given classes, in the order of this set."""
        wanted = list(classes)
        if missing := sorted(set(wanted) - set(self.class_names)):
            composed = {unicodedata.normalize("NFC", name) for name in self.class_names}
            problem = f"{getattr(self, 'name', 'the vectors')}: no class {missing[0]!r}"
            if unicodedata.normalize("NFC", missing[0]) in composed:
                problem += " in this Unicode normalization (NFC or NFD), but in another one"
            count = f"{len(missing)} of the {len(wanted)} requested classes do not exist"
            raise OodmlError(f"{problem}; {count}", given=missing[0], allowed=self.class_names)
        return self.select(np.isin(self.classes, wanted))
