"""File formats of labeled vectors: .npz, .safetensors, .parquet, .npy with a .csv, and .csv."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at, suggest
from oodml.files import missing_study, replacing
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
    """Write "vectors" [n d] and columns [n] of text, atomically, in the format of the suffix.

    The source is where the vectors come from, as JSON values; .npy does not store it.
    """
    check_suffix(path)
    suffix, about, vectors = path.suffix.lower(), json.dumps(dict(source)), columns["vectors"]
    text = {key: values.tolist() for key, values in columns.items() if key != "vectors"}
    if suffix == ".npy":
        labels = path.with_suffix(".csv")
        if labels.exists() and not _starts_with(labels, b"class,id", b'"class","id"'):
            problem = f"{path}: would overwrite {labels.name}, which is not a file of labels"
            raise OodmlError(problem, location=str(labels))
        # Quotes mark text such as "nan" as a class name for the reader.
        with replacing(labels) as temporary, temporary.open("w", newline="", encoding="utf-8") as s:
            writer = csv.writer(s, quoting=csv.QUOTE_ALL, lineterminator="\n")
            names = {"classes": "class", "ids": "id", "superclasses": "superclass"}
            writer.writerow(names.get(key, key) for key in text)
            writer.writerows(zip(*text.values(), strict=True))
    with replacing(path) as temporary:
        if suffix == ".npz":
            arrays: dict[str, Any] = {"source": np.array(about), **columns}
            with temporary.open("wb") as stream:
                np.savez(stream, **arrays)
        elif suffix == ".npy":
            with temporary.open("wb") as stream:
                np.save(stream, vectors)
        elif suffix == ".safetensors":
            from safetensors.numpy import save_file

            metadata = {key: json.dumps(values) for key, values in text.items()}
            tensors = {"vectors": np.ascontiguousarray(vectors)}
            save_file(tensors, temporary, metadata={**metadata, "source": about})
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            table = pa.table({"vectors": lists} | {key: pa.array(text[key]) for key in text})
            pq.write_table(table.replace_schema_metadata({"source": about}), temporary)


def read_vectors(path: Path, **options: Any) -> tuple[Columns, dict[str, Any]]:
    """Read the columns of a file and their source; the options are those of `VectorSet.load`."""
    if not path.exists() and (hint := missing_study(str(path))):
        raise error_at(path, f"no such file.{hint}")
    check_suffix(path, READABLE)
    _check_signature(path)
    try:
        return standard_columns(_READERS[path.suffix.lower()](path), **options)
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


def _contents(path: Path, columns: dict[str, Column], source: Any) -> Contents:
    """The contents of a file with the source as stored; text is literal in our own files."""
    try:
        value = json.loads(source)
    except (TypeError, ValueError):
        value = None
    own = isinstance(value, dict)
    return Contents(path, columns, value if own else {}, literal=own)


def _read_npz(path: Path) -> Contents:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        load = archive.__getitem__
        columns = {name: _numpy_column(path, name, partial(load, name)) for name in archive.files}
    source = columns.get("source")
    text = str(source.load()) if source is not None and source.kind == "other" else None
    return _contents(path, columns, text)


def _numpy_column(path: Path, name: str, load: Callable[[], Any]) -> Column:
    """A column of an array; one of Python objects is refused when its values are used."""
    try:
        return _array_column(load())
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise

    def refuse() -> NoReturn:
        problem = (
            f"{name!r} is an array of Python objects; loading it could run code. Save "
            f"labels as text, `{name}.astype(str)`, and vectors as numbers, `np.stack({name})`."
        )
        raise error_at(path, problem, name)

    is_vectors = name.strip().casefold() in VECTORS
    return Column("matrix" if is_vectors else "text", refuse, "Python objects")


def _array_column(array: Any) -> Column:
    """A column of a numpy array or a tensor."""
    shape, dtype = list(array.shape), str(array.dtype).removeprefix("torch.")
    is_text = bool(re.match(r"[<>|=]?[US]\d", dtype))
    kinds = {(1, True): "text", (1, False): "numbers", (2, False): "matrix"}
    return Column(kinds.get((len(shape), is_text), "other"), lambda: array, f"{dtype} {shape}")


def _read_safetensors(path: Path) -> Contents:
    """Tensors, and lists in the metadata: safetensors cannot store text otherwise."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        columns = {name: _array_column(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    source = metadata.pop("source", None)
    for name, text in metadata.items():
        try:
            values = json.loads(text)
        except ValueError:
            continue
        if isinstance(values, list):
            columns.setdefault(name, Column("text", partial(list, values), "metadata"))
    return _contents(path, columns, source)


def _read_parquet(path: Path) -> Contents:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = table.column_names
    if len(set(names)) < len(names):
        raise error_at(path, "two columns have the same name")
    names = [name for name in names if not name.startswith("__index_level_")]
    columns = {name: _arrow_column(path, name, table[name]) for name in names}
    return _contents(path, columns, (table.schema.metadata or {}).get(b"source"))


def _arrow_column(path: Path, name: str, values: Any) -> Column:
    import pyarrow as pa

    types = pa.types
    if isinstance(values.type, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in values.chunks]
        values = pa.chunked_array(storage, values.type.storage_type)
    kind = values.type
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    is_list = any(test(kind) for test in tests)
    unit = kind.value_type if is_list else kind
    if types.is_integer(unit) or types.is_floating(unit) or types.is_decimal(unit):
        if is_list:
            return Column("matrix", lambda: _list_matrix(values), str(kind))
        # A list keeps missing integers apart from NaN.
        load = values.to_pylist if values.null_count else values.to_numpy
        return Column("numbers", load, str(kind))
    if types.is_string(kind) or types.is_large_string(kind):
        return _text_column(path, name, values.to_pylist())
    return Column("other", values.to_pylist, str(kind))


def _list_matrix(values: Any) -> Any:
    """Lists of equal length as an array [n d]; other lists as they are, for `as_float_array`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(values), -1).to_numpy()
    if not len(lengths):
        return np.zeros((0, 0), dtype=np.float32)
    flat = pa.concat_arrays([chunk.flatten() for chunk in values.chunks])
    if flat.null_count or lengths.min() < 0 or lengths.min() < lengths.max():
        return values.to_pylist()
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(lengths), -1)


def _text_column(path: Path, name: str, texts: list[str | None]) -> Column:
    """A column of text: lists such as "[0.5, 1.2]", numbers, or labels."""
    first = next((text.strip() for text in texts if text), "")
    is_list = first.startswith("[")
    if not is_list and _parse_number(first) is None:
        return Column("text", lambda: texts, "text")
    read: Callable[[str], Any] = _parse_list if is_list else _parse_number

    def parse() -> list[Any]:
        values = [read((text or "").strip()) for text in texts]
        for row, value in enumerate(values):
            if value is None:
                what, given = "list of numbers" if is_list else "number", (texts[row] or "")[:40]
                raise error_at(path, f"row {row} of {name!r} is not a {what}: {given!r}", row)
        return values

    kind, about = ("matrix", "lists as text") if is_list else ("numbers", "numbers")
    return Column(kind, lambda: texts, about, parse)


def _parse_list(text: str) -> NDArray[np.float64] | None:
    """A vector from a JSON list, or from a list as numpy prints it."""
    if not (match := re.fullmatch(r"\[([^\[\]]*)\]", text)):
        return None
    numbers = [_parse_number(part) for part in re.split(r"[\s,]+", match[1]) if part]
    return None if None in numbers else np.array(numbers, dtype=np.float64)


def _parse_number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _read_npy(path: Path) -> Contents:
    labels_file = path.with_suffix(".csv")
    if not labels_file.exists():
        problem = f"{labels_file.name} is missing; save the labels there, in a column 'class'"
        raise OodmlError(f"{path}: {problem}", str(labels_file))
    contents = _read_csv(labels_file)
    vectors = _numpy_column(path, "vectors", partial(np.load, path, allow_pickle=False))
    replaced = contents.matches(VECTORS)
    columns = {name: one for name, one in contents.columns.items() if name not in replaced}
    columns |= {"vectors": vectors}
    return Contents(path, columns, literal=contents.literal, labels_file=labels_file)


def _read_csv(path: Path) -> Contents:
    named = {name: values for name, values in read_table(path).items() if name.strip()}
    columns = {name: _text_column(path, name, [*values]) for name, values in named.items()}
    return Contents(path, columns, literal=_starts_with(path, b'"class","id"'))


def read_table(path: Path, delimiter: str = ",") -> dict[str, list[str]]:
    """The columns of a table of text with a header, in UTF-8.

    Blank lines are left out; in a table of one column they are blank cells, except at the end.
    """
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise error_at(path, "is UTF-16; save it as UTF-8")
    try:
        stream = io.StringIO(content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"line {line} is not UTF-8 (perhaps Latin-1); save the file as UTF-8"
        raise error_at(path, problem, line) from error
    limit = csv.field_size_limit(_CSV_FIELD_LIMIT)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise error_at(path, f"line {reader.line_num}: {error}", reader.line_num) from error
    finally:
        csv.field_size_limit(limit)
    while rows and not rows[-1][1]:
        rows.pop()
    if not rows:
        raise error_at(path, "the file is empty")
    header = rows[0][1]
    for name in header:
        if name.strip() and header.count(name) > 1:
            raise error_at(path, f"two columns are called {name!r}", name)
    cells = [(line, row or [""]) for line, row in rows[1:] if row or len(header) == 1]
    for line, row in cells:
        if len(row) != len(header):
            problem = f"line {line} has {len(row)} fields, the header has {len(header)}"
            raise error_at(path, problem, line)
    return {name: [row[i] for _, row in cells] for i, name in enumerate(header)}


def _starts_with(path: Path, *starts: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(16).startswith(starts)


_READERS = {
    ".npz": _read_npz, ".safetensors": _read_safetensors, ".parquet": _read_parquet,
    ".npy": _read_npy, ".csv": _read_csv,
}  # fmt: skip
