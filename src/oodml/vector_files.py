"""File formats of labeled vectors: .npz, .safetensors, .parquet, .npy with a .csv, and .csv."""

import csv
import io
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at, suggest
from oodml.files import replacing
from oodml.vector_columns import VECTORS, Column, Columns, Contents, standard_columns

SUFFIXES = (".npz", ".safetensors", ".parquet", ".npy")
"""The formats that are written; .csv is only read."""
READABLE = (*SUFFIXES, ".csv")

_SIGNATURES = {b"PK\x03\x04": ".npz", b"\x93NUMPY": ".npy", b"PAR1": ".parquet"}
_CSV_FIELD_LIMIT = 2**27
"""Characters per field, enough for a vector as text."""


def check_suffix(path: Path, allowed: tuple[str, ...] = SUFFIXES) -> None:
    """Refuse an output with an unsupported suffix, before anything is computed for it."""
    if path.suffix.lower() not in allowed:
        problem = f"unsupported suffix {path.suffix!r}; allowed: {', '.join(allowed)}"
        raise error_at(path, problem, path.suffix, allowed)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that a file of vectors consists of: an .npy has its labels in a .csv beside it."""
    return (path, path.with_suffix(".csv")) if path.suffix.lower() == ".npy" else (path,)


def write_vectors(path: Path, columns: Columns, source: Mapping[str, Any]) -> None:
    """Write vectors, atomically, in the format of the file's suffix.

    Args:
        columns: "vectors" [n d], "classes" [n], "ids" [n], and optionally "superclasses" [n].
        source: where the vectors come from, as JSON values; .npy does not store it.
    """
    check_suffix(path)
    with replacing(path) as temporary:
        _WRITERS[path.suffix.lower()](columns, source, temporary, path)


def read_vectors(
    path: Path,
    *,
    vectors: str | None = None,
    labels: str | None = None,
    skip_unlabeled: bool = False,
) -> tuple[Columns, dict[str, Any]]:
    """Read the columns of a file as `write_vectors` takes them, and their source.

    The arguments are those of `VectorSet.load`. Without classes (`labels=""`), every row has the
    class "unlabeled".
    """
    check_suffix(path, READABLE)
    _check_signature(path)
    try:
        contents = _READERS[path.suffix.lower()](path)
        return standard_columns(contents, vectors, labels, skip_unlabeled)
    except OodmlError:
        raise
    except Exception as error:  # each library raises its own exceptions for damaged files
        raise error_at(path, f"not a readable {path.suffix} file: {error}") from error


def _check_signature(path: Path) -> None:
    """Refuse missing and empty files, and files whose contents belong to another suffix."""
    if not path.exists():
        names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise error_at(path, f"no such file.{suggest(path.name, names)}")
    if path.is_dir():
        raise error_at(path, "a folder, not a file of vectors")
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise error_at(path, f"{error.strerror}") from error
    if not start:
        raise error_at(path, "the file is empty")
    for signature, suffix in _SIGNATURES.items():
        if start.startswith(signature) and path.suffix.lower() != suffix:
            problem = f"its contents are those of a {suffix} file; rename it"
            raise error_at(path, problem, path.suffix, (suffix,))


def _text_columns(columns: Columns) -> Columns:
    return {key: values for key, values in columns.items() if key != "vectors"}


def _parse_source(text: Any) -> dict[str, Any] | None:
    """The source that this package stores as a JSON object; None for anything else."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write_npz(columns: Columns, source: Mapping[str, Any], path: Path, target: Path) -> None:
    arrays: dict[str, Any] = {"source": np.array(json.dumps(dict(source))), **columns}
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def _read_npz(path: Path) -> Contents:
    columns: dict[str, Column] = {}
    source = None
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                array = archive[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                columns[name] = _pickled_column(path, name)
                continue
            if name == "source" and array.ndim == 0 and array.dtype.kind == "U":
                source = _parse_source(str(array))
            columns[name] = _array_column(array)
    return Contents(path, columns, source or {}, literal=source is not None)


def _array_column(array: Any) -> Column:
    """A column of a numpy array or a tensor."""
    shape, dtype = list(array.shape), str(array.dtype).removeprefix("torch.")
    about = f"{dtype} {shape}"
    is_text = bool(re.match(r"[<>|=]?[US]\d", dtype))
    if len(shape) == 2 and not is_text:
        return Column("matrix", lambda: array, about)
    if len(shape) == 1:
        return Column("text" if is_text else "numbers", lambda: array, about)
    return Column("other", lambda: array, about)


def _pickled_column(path: Path, name: str) -> Column:
    """An array that only pickle can load."""

    def refuse() -> NoReturn:
        problem = (
            f"{name!r} is an array of Python objects; loading it could run code. Save "
            f"labels as text, `{name}.astype(str)`, and vectors as numbers, `np.stack({name})`."
        )
        raise error_at(path, problem, name)

    is_vectors = name.strip().casefold() in VECTORS
    return Column("matrix" if is_vectors else "text", refuse, "Python objects")


def _write_safetensors(
    columns: Columns, source: Mapping[str, Any], path: Path, target: Path
) -> None:
    from safetensors.numpy import save_file

    text = _text_columns(columns)
    metadata = {key: json.dumps(values.tolist()) for key, values in text.items()}
    metadata["source"] = json.dumps(dict(source))
    save_file({"vectors": np.ascontiguousarray(columns["vectors"])}, path, metadata=metadata)


def _read_safetensors(path: Path) -> Contents:
    """Tensors, and lists in the metadata: safetensors cannot store text otherwise."""
    from safetensors import safe_open

    columns: dict[str, Column] = {}
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        for name in file.keys():  # noqa: SIM118
            columns[name] = _array_column(file.get_tensor(name))
    source = _parse_source(metadata.pop("source", None))
    for name, text in metadata.items():
        try:
            values = json.loads(text)
        except ValueError:
            continue
        if isinstance(values, list):
            columns.setdefault(name, Column("text", partial(list, values), "metadata"))
    return Contents(path, columns, source or {}, literal=source is not None)


def _write_parquet(columns: Columns, source: Mapping[str, Any], path: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = columns["vectors"]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    text = {key: pa.array(values.tolist()) for key, values in _text_columns(columns).items()}
    table = pa.table({"vectors": lists, **text})
    pq.write_table(table.replace_schema_metadata({"source": json.dumps(dict(source))}), path)


def _read_parquet(path: Path) -> Contents:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if len(set(table.column_names)) < len(table.column_names):
        raise error_at(path, "two columns have the same name")
    source = _parse_source((table.schema.metadata or {}).get(b"source"))
    columns = {
        name: _arrow_column(path, name, table[name])
        for name in table.column_names
        if not name.startswith("__index_level_")
    }
    return Contents(path, columns, source or {}, literal=source is not None)


def _arrow_column(path: Path, name: str, values: Any) -> Column:
    import pyarrow as pa

    types = pa.types
    if isinstance(values.type, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in values.chunks]
        values = pa.chunked_array(storage, values.type.storage_type)
    kind = values.type

    def is_number(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))

    if is_number(kind):  # a list keeps missing integers apart from NaN
        load = values.to_pylist if values.null_count else values.to_numpy
        return Column("numbers", load, str(kind))
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if is_list and is_number(kind.value_type):
        return Column("matrix", lambda: _list_matrix(path, name, values), str(kind))
    if types.is_string(kind) or types.is_large_string(kind):
        return _text_column(path, name, values.to_pylist())
    return Column("other", values.to_pylist, str(kind))


def _list_matrix(path: Path, name: str, values: Any) -> NDArray[Any]:
    """Lists of equal length as an array [n d]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(values), -1).to_numpy()
    if not len(lengths):
        return np.zeros((0, 0), dtype=np.float32)
    different = np.flatnonzero((lengths != lengths[0]) | (lengths < 0))
    if len(different):
        row = int(different[0])
        text = "no list" if lengths[row] < 0 else f"{lengths[row]} numbers"
        usual = int(lengths[lengths >= 0][0]) if (lengths >= 0).any() else 0
        _refuse_row(path, name, row, f"has {text}; other rows have {usual}")
    flat = pa.concat_arrays([chunk.flatten() for chunk in values.chunks])
    if flat.null_count:
        first = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
        _refuse_row(path, name, first // int(lengths[0]), "has a missing number")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(lengths), -1)


def _text_column(path: Path, name: str, texts: list[str | None]) -> Column:
    """A column of text: lists such as "[0.5, 1.2]", numbers, or labels."""
    first = next((text.strip() for text in texts if text), "")
    if first.startswith("["):
        parse = partial(_parse_lists, path, name, texts)
        return Column("matrix", lambda: texts, "lists as text", parse)
    if _parse_number(first) is not None:
        parse_numbers = partial(_parse_numbers, path, name, texts)
        return Column("numbers", lambda: texts, "numbers", parse_numbers)
    return Column("text", lambda: texts, "text")


def _parse_lists(path: Path, name: str, texts: list[str | None]) -> list[NDArray[np.float64]]:
    """Vectors from JSON lists, or from lists as numpy prints them."""
    rows = []
    for row, text in enumerate(texts):
        match = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*", text or "")
        parts = [part for part in re.split(r"[\s,]+", match[1]) if part] if match else []
        numbers = [_parse_number(part) for part in parts]
        if not numbers or None in numbers:
            _refuse_row(path, name, row, f"is not a list of numbers: {(text or '')[:40]!r}")
        rows.append(np.array(numbers, dtype=np.float64))
    return rows


def _parse_numbers(path: Path, name: str, texts: list[str | None]) -> list[float]:
    values = []
    for row, text in enumerate(texts):
        number = _parse_number((text or "").strip())
        if number is None:
            _refuse_row(path, name, row, f"is not a number: {(text or '')[:40]!r}")
        values.append(number)
    return values


def _parse_number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _refuse_row(path: Path, name: str, row: int, problem: str) -> NoReturn:
    raise error_at(path, f"row {row} of {name!r} {problem}", row)


def _write_npy(columns: Columns, source: Mapping[str, Any], path: Path, target: Path) -> None:
    labels_file = target.with_suffix(".csv")
    if labels_file.exists() and not _is_own_csv(labels_file, b"class,id", b'"class","id"'):
        problem = f"{target}: would overwrite {labels_file.name}, which is not a file of labels"
        raise OodmlError(problem, location=str(labels_file))
    names = {"classes": "class", "ids": "id", "superclasses": "superclass"}
    table = {names.get(key, key): values.tolist() for key, values in _text_columns(columns).items()}
    text = io.StringIO()
    # Quotes tell the reader that text such as "nan" is a class name.
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    with path.open("wb") as stream:
        np.save(stream, columns["vectors"])
    with replacing(labels_file) as temporary:
        temporary.write_bytes(text.getvalue().encode())


def _read_npy(path: Path) -> Contents:
    labels_file = path.with_suffix(".csv")
    if not labels_file.exists():
        problem = f"{labels_file.name} is missing; save the labels there, in a column 'class'"
        raise OodmlError(f"{path}: {problem}", str(labels_file))
    contents = _read_csv(labels_file)
    names = [name for name in contents.columns if name.strip().casefold() not in VECTORS]
    columns = {name: contents.columns[name] for name in names}
    try:
        columns["vectors"] = _array_column(np.load(path, allow_pickle=False))
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        columns["vectors"] = _pickled_column(path, "vectors")
    return Contents(path, columns, literal=contents.literal, labels_file=labels_file)


def _is_own_csv(path: Path, *starts: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(16).startswith(starts)


def _read_csv(path: Path) -> Contents:
    """A table with a header, in UTF-8, separated by commas."""
    rows = _csv_rows(path, _decode(path))
    if not rows:
        raise error_at(path, "the file is empty")
    header, lines = rows[0][1], rows[1:]
    names = [name for name in header if name.strip()]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise error_at(path, f"two columns are called {repeated!r}", repeated)
    for line, row in lines:
        if len(row) != len(header):
            problem = f"line {line} has {len(row)} fields, the header has {len(header)}"
            raise error_at(path, problem, line)
    columns = {
        name: _text_column(path, name, [row[i] for _, row in lines])
        for i, name in enumerate(header)
        if name.strip()
    }
    return Contents(path, columns, literal=_is_own_csv(path, b'"class","id"'))


def _decode(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise error_at(path, "is UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"line {line} is not UTF-8 (perhaps Latin-1); save the file as UTF-8"
        raise error_at(path, problem, line) from error


def _csv_rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The rows with their line numbers; in a table of one column, a blank line is a blank cell."""
    limit = csv.field_size_limit(_CSV_FIELD_LIMIT)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise error_at(path, f"line {reader.line_num}: {error}", reader.line_num) from error
    finally:
        csv.field_size_limit(limit)
    while rows and not rows[-1][1]:
        rows.pop()
    is_single = bool(rows) and len(rows[0][1]) == 1
    return [(line, row or [""] if is_single else row) for line, row in rows]


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
    ".csv": _read_csv,
}
