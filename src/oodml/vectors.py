"""Labeled vectors, one row per image: frozen features and learned embeddings alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oodml import vector_files
from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.labeled import Labeled


@dataclass(frozen=True)
class VectorSet(Labeled):
    """Vectors with the class of each row.

    Attributes:
        vectors: [n d] float32.
        classes: [n] the class of each row.
        ids: [n] the image that each row comes from.
        superclasses: [n] the superclass of each row, or None.
        source: where the vectors come from (data, fingerprint, backbone, …), as JSON values.

    Raises:
        OodmlError: if shapes do not match or a vector is not finite.
    """

    vectors: NDArray[np.float32]
    classes: Names
    ids: Names
    superclasses: Names | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    PER_ROW: ClassVar[tuple[str, ...]] = ("vectors", "classes", "ids", "superclasses")

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise OodmlError(
                f"vectors must be [n d]; given shape {self.vectors.shape}",
                location="vectors",
                given=self.vectors.shape,
            )
        for name in ("classes", "ids"):
            count = len(getattr(self, name))
            if count != len(self.vectors):
                raise OodmlError(
                    f"{count} {name} for {len(self.vectors)} vectors", location=name, given=count
                )
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise OodmlError(
                f"the vector of row {bad[0]} (id {str(self.ids[bad[0]])!r}) is not finite "
                f"({len(bad)} of {len(self.vectors)} rows)",
                location="vectors",
                given=int(bad[0]),
            )

    def class_means(self) -> NDArray[np.float64]:
        """[classes d] the mean vector of each class, in the order of `class_names`."""
        sums = np.zeros((len(self.class_names), self.vectors.shape[1]))
        np.add.at(sums, self.labels, self.vectors)
        return sums / np.bincount(self.labels)[:, None]

    def save(self, path: str | Path) -> None:
        """Write the set to .npz, .safetensors, .parquet, or .npy with labels in a .csv beside it.

        Raises:
            OodmlError: for another suffix, or if the .csv is not a file of labels.
        """
        columns = {"vectors": self.vectors, "classes": self.classes, "ids": self.ids}
        if self.superclasses is not None:
            columns["superclasses"] = self.superclasses
        vector_files.write_vectors(Path(path), columns, self.source)

    @classmethod
    def load(cls, path: str | Path) -> "VectorSet":
        """Read a file that `save` wrote, or one with the same keys or columns.

        Args:
            path: .npz and .safetensors contain `vectors` and `classes` (or `labels`), optionally
                `ids` and `superclasses`. .parquet has the same as columns, with `vectors` as one
                list per row, or one column per dimension. .npy needs `NAME.csv` beside it, with a
                column `class` (or `label`).

        Raises:
            OodmlError: if the file is missing, damaged, or lacks a column.
        """
        source = Path(path)
        columns, origin = vector_files.read_vectors(source)
        try:
            return cls(source=origin, **columns)
        except OodmlError as error:
            raise OodmlError(f"{source}: {error}", location=str(source)) from error
