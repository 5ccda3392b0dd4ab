"""Labeled vectors, one row per image: frozen features and learned embeddings alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oodml import vector_files
from oodml.arrays import Names, as_float_array
from oodml.errors import OodmlError, error_at
from oodml.label_names import Labeled, as_names, refuse_same_names
from oodml.vector_columns import ATTRIBUTES


@dataclass(frozen=True)
class VectorSet(Labeled):
    """Vectors with the class of each row.

    Attributes:
        vectors: [n d] float32, or float64 if given so; every metric is computed in that type.
        classes, superclasses: [n] the class of each row, as text, and its superclass or None.
        ids: [n] the image that each row comes from; row numbers if not given.
        source: where the vectors come from (data, fingerprint, backbone, …), as JSON values.
        partition: [n] "query", "gallery", "both", or "unlisted" if the dataset has such lists.
        attributes: [n] columns of `oodml.vector_columns.ATTRIBUTES` as text, "" where unknown.

    Raises:
        OodmlError: if shapes do not match, a vector is not finite, or a label is missing.
    """

    vectors: NDArray[Any]
    classes: Names
    ids: Names = field(default_factory=lambda: np.empty(0, dtype=np.str_))
    superclasses: Names | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    partition: Names | None = None
    attributes: Mapping[str, Names] = field(default_factory=dict)

    PER_ROW: ClassVar[tuple[str, ...]] = ("vectors", "classes", "ids", "superclasses", "partition")

    def __post_init__(self) -> None:
        self._set("vectors", as_float_array(self.vectors))
        if self.vectors.ndim != 2:
            problem = f"vectors must be [n d]; given shape {self.vectors.shape}"
            raise OodmlError(problem, "vectors", self.vectors.shape)
        n = len(self.vectors)
        if len(self.ids) == 0 < n:
            self._set("ids", np.arange(n))
            self._set("source", {**self.source, "ids": "row numbers"})
        for name in self.PER_ROW[1:]:
            if getattr(self, name) is not None:
                self._set(name, as_names(getattr(self, name), name, literal=True))
        columns = {name: getattr(self, name) for name in self.PER_ROW[1:]} | {**self.attributes}
        for name, values in columns.items():
            if values is not None and np.shape(values) != (n,):
                raise OodmlError(f"{len(values)} {name} for {n} vectors", name, len(values))
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            row = f"the vector of row {bad[0]} (id {str(self.ids[bad[0]])!r})"
            problem = f"{row} is not finite ({len(bad)} of {n} rows)"
            raise OodmlError(problem, "vectors", int(bad[0]))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        return f"VectorSet: {n} vectors of {d} dimensions, {self.describe_classes()}"

    @property
    def has_ids(self) -> bool:
        """Whether `ids` name images; False if they are row numbers."""
        return self.source.get("ids") != "row numbers"

    def class_means(self) -> NDArray[np.float64]:
        """[classes d] the mean vector of each class, in the order of `class_names`."""
        from scipy.sparse import csr_array

        n = len(self.labels)
        members = csr_array((np.ones(n), (self.labels, np.arange(n))))
        return np.asarray(members @ self.vectors / np.bincount(self.labels)[:, None])

    def save(self, path: str | Path) -> None:
        """Write .npz, .safetensors, .parquet, or .npy with labels in a .csv beside it."""
        columns = {name: getattr(self, name) for name in self.PER_ROW} | {**self.attributes}
        present = {name: values for name, values in columns.items() if values is not None}
        vector_files.write_vectors(Path(path), present, self.source)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        vectors: str | None = None,
        labels: str | None = None,
        skip_unlabeled: bool = False,
    ) -> "VectorSet":
        """Read a file that `save` wrote, or one of your own: .npz, .safetensors, .parquet, or .csv,
        or an .npy with a .csv of labels. `oodml.vector_columns` lists the names of columns.

        Args:
            vectors: the column of the vectors, or a pattern such as "pc*" for one per dimension.
            labels: the column of the classes; "" reads a file without classes.
            skip_unlabeled: exclude rows without a class or superclass instead of refusing the file;
                `source` has their number as "skipped_unlabeled".

        Raises:
            OodmlError: if the file is missing, damaged, ambiguous, or lacks a column or a label.
        """
        file = Path(path)
        chosen = {"vectors": vectors, "labels": labels, "skip_unlabeled": skip_unlabeled}
        columns, source = vector_files.read_vectors(file, **chosen)
        refuse_same_names(columns["classes"], str(file))
        attributes = {name: columns.pop(name) for name in ATTRIBUTES if name in columns}
        try:
            return cls(source=source, attributes=attributes, **columns)
        except OodmlError as error:
            raise error_at(file, str(error), error.given) from error
