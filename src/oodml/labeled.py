"""Rows that each have a class: what image sets and vector sets share."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from oodml.arrays import Names
from oodml.errors import OodmlError

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
        return f"{len(self.class_names)} classes" + f", {groups} superclasses" * bool(groups)

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
