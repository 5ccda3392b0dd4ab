"""File formats of labeled vectors: .npz, .safetensors, .parquet, and .npy with a .csv."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.files import replacing

SUFFIXES = (".npz", ".safetensors", ".parquet", ".npy")
TEXT = ("classes", "labels", "ids", "superclasses")

Columns = dict[str, NDArray[Any]]


def check_suffix(path: Path) -> None:
    """Refuse an unsupported suffix, before anything is computed for the file.

    Raises:
        OodmlError: if the suffix is not one of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise OodmlError(
            f"{path}: suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}",
            location=str(path),
            given=path.suffix,
            allowed=SUFFIXES,
        )


def write_vectors(path: Path, columns: Columns, source: Mapping[str, Any]) -> None:
    """Write vectors, atomically, in the format of the file's suffix.

    Args:
        path: the file.
        columns: "vectors" [n d], "classes" [n], "ids" [n], and optionally "superclasses" [n].
        source: where the vectors come from, as JSON values; .npy does not store it.
    """
    check_suffix(path)
    with replacing(path) as temporary:
        _WRITERS[path.suffix](columns, source, temporary, path)


def read_vectors(path: Path) -> tuple[Columns, dict[str, Any]]:
    """Read the columns of a file as `write_vectors` takes them, and their source.

    Raises:
        OodmlError: if the file is missing, damaged, or lacks a column.
    """
    check_suffix(path)
    if not path.exists():
        raise OodmlError(f"{path}: no such file", location=str(path))
    try:
        columns, source = _READERS[path.suffix](path)
    except OodmlError:
        raise
    except Exception as error:  # each library raises its own exceptions for damaged files
        raise OodmlError(
            f"{path}: not a readable {path.suffix} file: {error}", location=str(path)
        ) from error
    return _standard_columns(path, columns), source


def _standard_columns(path: Path, columns: Columns) -> Columns:
    classes = columns.get("classes", columns.get("labels"))
    if "vectors" not in columns or classes is None:
        raise OodmlError(
            f"{path}: `vectors` and `classes` (or `labels`) are required; the file has "
            f"{sorted(columns)}",
            location=str(path),
            given=sorted(columns),
            allowed=("vectors", *TEXT),
        )
    ids = columns.get("ids", np.arange(len(columns["vectors"])))
    text = {"classes": classes, "ids": ids}
    if "superclasses" in columns:
        text["superclasses"] = columns["superclasses"]
    try:
        vectors = np.ascontiguousarray(columns["vectors"], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise OodmlError(f"{path}: {error}", location=str(path)) from error
    return {"vectors": vectors} | {
        key: np.asarray(values).astype(np.str_) for key, values in text.items()
    }


def _text_columns(columns: Columns) -> Columns:
    return {key: values for key, values in columns.items() if key != "vectors"}


def _write_npz(columns: Columns, source: Mapping[str, Any], path: Path, target: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, source=np.array(json.dumps(dict(source))), **columns)  # type: ignore[arg-type]


def _read_npz(path: Path) -> tuple[Columns, dict[str, Any]]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        columns = {key: archive[key] for key in archive.files}
    source = columns.pop("source", None)
    return columns, {} if source is None else json.loads(str(source))


def _write_safetensors(
    columns: Columns, source: Mapping[str, Any], path: Path, target: Path
) -> None:
    from safetensors.numpy import save_file

    text = _text_columns(columns)
    metadata = {key: json.dumps(values.tolist()) for key, values in text.items()}
    metadata["source"] = json.dumps(dict(source))
    save_file({"vectors": np.ascontiguousarray(columns["vectors"])}, path, metadata=metadata)


def _read_safetensors(path: Path) -> tuple[Columns, dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata() or {})
        columns: Columns = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    source = json.loads(metadata.pop("source", "{}"))
    columns |= {key: np.array(json.loads(metadata[key])) for key in TEXT if key in metadata}
    return columns, source


def _write_parquet(columns: Columns, source: Mapping[str, Any], path: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = columns["vectors"]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    text = {key: pa.array(values.tolist()) for key, values in _text_columns(columns).items()}
    table = pa.table({"vectors": lists, **text})
    pq.write_table(table.replace_schema_metadata({"source": json.dumps(dict(source))}), path)


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


def _write_npy(columns: Columns, source: Mapping[str, Any], path: Path, target: Path) -> None:
    import pandas as pd

    labels_file = target.with_suffix(".csv")
    if labels_file.exists() and not labels_file.read_text(encoding="utf-8").startswith("class,id"):
        raise OodmlError(
            f"{target}: would overwrite {labels_file.name}, which is not a file of labels",
            location=str(labels_file),
        )
    names = {"classes": "class", "ids": "id", "superclasses": "superclass"}
    table = {names[key]: values for key, values in _text_columns(columns).items()}
    with replacing(labels_file) as temporary:
        pd.DataFrame(table).to_csv(temporary, index=False)
    with path.open("wb") as stream:
        np.save(stream, columns["vectors"])


def _read_npy(path: Path) -> tuple[Columns, dict[str, Any]]:
    import pandas as pd

    labels_file = path.with_suffix(".csv")
    if not labels_file.exists():
        raise OodmlError(
            f"{path}: needs {labels_file.name} beside it, with a column `class`",
            location=str(labels_file),
        )
    table = pd.read_csv(labels_file, dtype=str, keep_default_na=False)
    names = {"class": "classes", "label": "classes", "id": "ids", "superclass": "superclasses"}
    columns: Columns = {
        names[name]: table[name].to_numpy(dtype=np.str_) for name in table.columns if name in names
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
