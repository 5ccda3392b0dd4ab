"""Labelled vectors: frozen features and learned embeddings alike. One row an image."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodml.arrays import Names
from oodml.errors import OodmlError
from oodml.files import replacing

SUFFIXES = (".npz", ".safetensors", ".parquet", ".npy")


@dataclass(frozen=True)
class VectorSet:
    """Vectors with the class of each.

    vectors: [n d] float32.
    classes: [n] the class of each row.
    ids: [n] the image that each row comes from.
    superclasses: [n] or None.
    source: where the vectors come from (data, fingerprint, backbone, pooling …), JSON values.
    """

    vectors: NDArray[np.float32]
    classes: Names
    ids: Names
    superclasses: Names | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise OodmlError(f"vectors must be [n d]; given shape {self.vectors.shape}")
        for name, values in (("classes", self.classes), ("ids", self.ids)):
            if len(values) != len(self.vectors):
                raise OodmlError(f"{len(values)} {name} for {len(self.vectors)} vectors")
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise OodmlError(
                f"vector of row {bad[0]} (id {str(self.ids[bad[0]])!r}) is not finite; "
                f"{len(bad)} of {len(self.vectors)} rows are so"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes, sorted."""
        return tuple(np.unique(self.classes).tolist())

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[n] the position of each row's class in `class_names`."""
        return np.searchsorted(np.asarray(self.class_names), self.classes)

    def class_means(self) -> NDArray[np.float64]:
        """[classes d] the mean vector of each class, in the order of `class_names`."""
        sums = np.zeros((len(self.class_names), self.vectors.shape[1]))
        np.add.at(sums, self.labels, self.vectors)
        return sums / np.bincount(self.labels)[:, None]

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "VectorSet":
        """The rows at these positions, in this order."""
        superclasses = None if self.superclasses is None else self.superclasses[rows]
        return replace(
            self,
            vectors=self.vectors[rows],
            classes=self.classes[rows],
            ids=self.ids[rows],
            superclasses=superclasses,
        )

    def subset(self, classes: Iterable[str]) -> "VectorSet":
        """The rows of some classes, in the order of this set."""
        wanted = list(classes)
        missing = sorted(set(wanted) - set(self.class_names))
        if missing:
            raise OodmlError(f"no vectors of class {missing[0]!r} ({len(missing)} missing)")
        return self.select(np.isin(self.classes, wanted))

    def save(self, path: str | Path) -> None:
        """Write to .npz, .safetensors, .parquet, or .npy with a .csv of the labels beside it."""
        target = Path(path)
        check_suffix(target)
        with replacing(target) as temporary:
            _WRITERS[target.suffix](self, temporary, target)

    @classmethod
    def load(cls, path: str | Path) -> "VectorSet":
        """Read a file that `save` wrote, or one with the same keys or columns.

        .npz and .safetensors: `vectors` and `classes` (or `labels`), optionally `ids`,
        `superclasses`. .parquet: the same as columns, `vectors` a list a row, or one column a
        dimension. .npy: `NAME.csv` beside it with a column `class` (or `label`).
        """
        source = Path(path)
        check_suffix(source)
        if not source.exists():
            raise OodmlError(f"{source}: no such file")
        try:
            columns, meta = _READERS[source.suffix](source)
        except OodmlError:
            raise
        except Exception as error:  # every reader fails in its own way on a torn file
            raise OodmlError(f"{source}: cannot be read as {source.suffix}: {error}") from error
        return _assemble(source, columns, meta)


def check_suffix(path: Path) -> None:
    """Refuse a file whose suffix is none of `SUFFIXES`, before anything is computed for it."""
    if path.suffix not in SUFFIXES:
        raise OodmlError(f"{path}: suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")


TEXT = ("classes", "labels", "ids", "superclasses")

Columns = dict[str, NDArray[Any]]


def _assemble(path: Path, columns: Columns, source: dict[str, Any]) -> VectorSet:
    classes = columns.get("classes", columns.get("labels"))
    if "vectors" not in columns or classes is None:
        raise OodmlError(
            f"{path}: needs `vectors` and `classes` (or `labels`); has {sorted(columns)}"
        )
    n = len(columns["vectors"])
    ids = columns.get("ids", np.arange(n))
    superclasses = columns.get("superclasses")
    try:
        return VectorSet(
            np.ascontiguousarray(columns["vectors"], dtype=np.float32),
            np.asarray(classes).astype(np.str_),
            np.asarray(ids).astype(np.str_),
            None if superclasses is None else np.asarray(superclasses).astype(np.str_),
            source,
        )
    except (OodmlError, TypeError, ValueError) as error:
        raise OodmlError(f"{path}: {error}") from error


def _text_columns(vectors: VectorSet) -> dict[str, Names]:
    columns = {"classes": vectors.classes, "ids": vectors.ids}
    if vectors.superclasses is not None:
        columns["superclasses"] = vectors.superclasses
    return columns


def _write_npz(vectors: VectorSet, path: Path, target: Path) -> None:
    with path.open("wb") as stream:
        np.savez(
            stream,
            vectors=vectors.vectors,
            source=np.array(json.dumps(dict(vectors.source))),
            **_text_columns(vectors),  # type: ignore[arg-type]
        )


def _read_npz(path: Path) -> tuple[Columns, dict[str, Any]]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        columns = {key: archive[key] for key in archive.files}
    source = columns.pop("source", None)
    return columns, {} if source is None else json.loads(str(source))


def _write_safetensors(vectors: VectorSet, path: Path, target: Path) -> None:
    from safetensors.numpy import save_file

    meta = {key: json.dumps(values.tolist()) for key, values in _text_columns(vectors).items()}
    meta["source"] = json.dumps(dict(vectors.source))
    save_file({"vectors": np.ascontiguousarray(vectors.vectors)}, path, metadata=meta)


def _read_safetensors(path: Path) -> tuple[Columns, dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        meta = dict(file.metadata() or {})
        columns: Columns = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    source = json.loads(meta.pop("source", "{}"))
    columns |= {key: np.array(json.loads(meta[key])) for key in TEXT if key in meta}
    return columns, source


def _write_parquet(vectors: VectorSet, path: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(vectors.vectors.ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, vectors.vectors.shape[1])
    columns = {key: pa.array(values.tolist()) for key, values in _text_columns(vectors).items()}
    table = pa.table({"vectors": lists, **columns})
    pq.write_table(
        table.replace_schema_metadata({"source": json.dumps(dict(vectors.source))}), path
    )


def _read_parquet(path: Path) -> tuple[Columns, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    source = json.loads((table.schema.metadata or {}).get(b"source", b"{}"))
    columns: Columns = {
        key: np.array(table[key].to_pylist()) for key in TEXT if key in table.column_names
    }
    if "vectors" in table.column_names:
        columns["vectors"] = np.stack(table["vectors"].to_numpy(zero_copy_only=False))
        return columns, source
    numeric = [
        field.name
        for field in table.schema
        if field.name not in TEXT and pa.types.is_floating(field.type)
    ]
    if numeric:
        columns["vectors"] = np.stack([table[name].to_numpy() for name in numeric], axis=1)
    return columns, source


def _write_npy(vectors: VectorSet, path: Path, target: Path) -> None:
    import pandas as pd

    beside = target.with_suffix(".csv")
    if beside.exists() and not beside.read_text(encoding="utf-8").startswith("class,id"):
        raise OodmlError(f"{target}: would replace {beside.name}, which is no file of its labels")
    table = {"class": vectors.classes, "id": vectors.ids}
    if vectors.superclasses is not None:
        table["superclass"] = vectors.superclasses
    with replacing(beside) as labels:
        pd.DataFrame(table).to_csv(labels, index=False)
    with path.open("wb") as stream:
        np.save(stream, vectors.vectors)


def _read_npy(path: Path) -> tuple[Columns, dict[str, Any]]:
    import pandas as pd

    labels = path.with_suffix(".csv")
    if not labels.exists():
        raise OodmlError(f"{path}: needs {labels.name} beside it, with a column `class`")
    table = pd.read_csv(labels, dtype=str, keep_default_na=False)
    renamed = {"class": "classes", "label": "classes", "id": "ids", "superclass": "superclasses"}
    columns: Columns = {
        renamed[name]: table[name].to_numpy(dtype=np.str_)
        for name in table.columns
        if name in renamed
    }
    columns["vectors"] = np.load(path, allow_pickle=False)
    return columns, {}


_WRITERS = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".parquet": _write_parquet,
    ".npy": _write_npy,
}
_READERS = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
    ".npy": _read_npy,
}
