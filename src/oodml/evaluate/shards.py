"""A folder of vector files that is read in chunks, so that it need not fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodml.arrays import as_float_array
from oodml.errors import OodmlError
from oodml.label_names import MISSING_TEXT, find_missing, missing_error
from oodml.vector_columns import CLASSES, IDS, VECTORS

SUFFIXES = (".npy", ".parquet", ".safetensors")
CHUNK = 2**24
"""Numbers per chunk that is read from a file."""


@dataclass(frozen=True)
class Shard:
    """One file: [rows dimensions] vectors in the type of the file, and their labels."""

    path: Path
    rows: int
    dimensions: int

    @property
    def labels_path(self) -> Path:
        """The file of the classes and ids."""
        return self.path.with_suffix(".csv") if self.path.suffix == ".npy" else self.path

    def chunks(self) -> Iterator[NDArray[Any]]:
        """The vectors in order, as finite float32 or float64, some rows at a time."""
        begin = 0
        for chunk in _READERS[self.path.suffix](self.path, max(1, CHUNK // self.dimensions)):
            vectors = as_float_array(chunk, str(self.path))
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(bad):
                raise OodmlError(
                    f"{self.path}: the vector of row {begin + bad[0]} is not finite",
                    location=str(self.path),
                    given=int(begin + bad[0]),
                )
            yield vectors
            begin += len(vectors)

    def labels(self, names: tuple[str, ...] = CLASSES) -> Any:
        """The column with one of the names as a pyarrow array of text, or None."""
        table = _read_labels(self.labels_path, names)
        if table is None:
            return None
        if len(table) != self.rows:
            raise OodmlError(
                f"{self.labels_path}: {len(table)} rows for {self.rows} vectors",
                location=str(self.labels_path),
                given=len(table),
            )
        return table


class Shards:
    """The vectors of all files of a folder, in the order of their names, or of one file.

    Args:
        folder: .npy files with labels in a .csv of the same name, .parquet, or .safetensors.

    Raises:
        OodmlError: if there are no such files, or they have different numbers of dimensions.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        files = self.folder.iterdir() if self.folder.is_dir() else [self.folder]
        visible = (path for path in files if not path.name.startswith("."))  # not half-written
        paths = sorted(path for path in visible if path.suffix in SUFFIXES and path.is_file())
        if not paths:
            raise OodmlError(
                f"{folder}: no file of vectors. Allowed: {', '.join(SUFFIXES)}",
                location=str(folder),
                allowed=SUFFIXES,
            )
        self.shards = [Shard(path, *_shape(path)) for path in paths]
        for shard in self.shards:
            if shard.dimensions != self.dimensions:
                raise OodmlError(
                    f"{shard.path}: {shard.dimensions} dimensions, {paths[0].name} has "
                    f"{self.dimensions}",
                    location=str(shard.path),
                    given=shard.dimensions,
                    allowed=(str(self.dimensions),),
                )

    @property
    def dimensions(self) -> int:
        """The number of dimensions of every vector."""
        return self.shards[0].dimensions

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def classes(self, names: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """The classes of all rows.

        Args:
            names: the classes of interest; all by default.

        Returns:
            The distinct names, and [n] the position of each row's class, -1 for other classes.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = []
        for shard in self.shards:
            column = shard.labels()
            if column is None:
                raise OodmlError(
                    f"{shard.labels_path}: no column of classes",
                    location=str(shard.labels_path),
                    allowed=CLASSES,
                )
            columns.append(_encode(column, shard.labels_path))
        if names is None:
            distinct = {name for column in columns for name in column.names.to_pylist()}
            names = np.array(sorted(distinct))
        wanted = pa.array(names.tolist(), pa.string())
        codes = np.empty(len(self), dtype=np.int32)
        begin = 0
        for column in columns:
            positions = pc.index_in(column.names, wanted).fill_null(-1)
            codes[begin : begin + len(column.codes)] = positions.to_numpy()[column.codes]
            begin += len(column.codes)
        return names, codes

    def ids(self, rows: NDArray[np.int64] | None = None) -> NDArray[Any] | None:
        """The ids of some rows in ascending order, or None if the files have no ids."""
        parts = []
        for shard, local in self._local(rows):
            column = shard.labels(IDS)
            if column is None:
                return None
            parts.append(np.asarray(column.take(local).to_pylist(), dtype=np.str_))
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.str_)

    def rows_with_ids(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """The rows that have one of the ids."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted, begin, rows = pa.array(ids.tolist(), pa.string()), 0, [np.empty(0, np.int64)]
        for shard in self.shards:
            column = shard.labels(IDS)
            if column is not None:
                rows.append(begin + np.flatnonzero(pc.is_in(column, wanted).to_numpy(False)))
            begin += shard.rows
        return np.concatenate(rows)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """[r d] the vectors of rows in ascending order."""
        parts = [np.empty((0, self.dimensions), np.float32)]
        for begin, chunk in self.chunks():
            low, high = np.searchsorted(rows, (begin, begin + len(chunk)))
            parts.append(chunk[rows[low:high] - begin])
        return np.concatenate(parts)

    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """All vectors in order, and the number of the first row of each chunk."""
        begin = 0
        for shard in self.shards:
            for chunk in shard.chunks():
                yield begin, chunk
                begin += len(chunk)

    def _local(self, rows: NDArray[np.int64] | None) -> Iterator[tuple[Shard, NDArray[np.int64]]]:
        begin = 0
        for shard in self.shards:
            if rows is None:
                yield shard, np.arange(shard.rows)
            else:
                low, high = np.searchsorted(rows, (begin, begin + shard.rows))
                yield shard, rows[low:high] - begin
            begin += shard.rows


@dataclass(frozen=True)
class _Encoded:
    names: Any
    codes: NDArray[np.int32]


def _encode(column: Any, path: Path) -> _Encoded:
    """Text as codes of its distinct values; missing classes are refused with their row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = column.dictionary_encode()
    names = encoded.dictionary
    missing = pc.is_in(pc.utf8_trim_whitespace(names), pa.array(["", *MISSING_TEXT]))
    if column.null_count or pc.any(missing).as_py():
        values = column.to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(find_missing(values))
        if len(rows):
            raise missing_error(values, rows, "classes", str(path))
    return _Encoded(names, pc.cast(encoded.indices, "int32").to_numpy())


def _read_labels(path: Path, names: tuple[str, ...]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.suffix == ".safetensors":
            return _safetensors_labels(path, names)
        if path.suffix == ".parquet":
            column = _matching(path, pa.parquet.read_schema(path).names, names)
            table = None if column is None else pa.parquet.read_table(path, columns=[column])
        else:
            with pa.csv.open_csv(path) as reader:
                header = reader.schema.names
            column = _matching(path, header, names)
            options = pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=[column],
                strings_can_be_null=False,
            )
            table = None if column is None else pa.csv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise OodmlError(f"{path}: {error}", location=str(path)) from error
    if table is None:
        return None
    return pc.cast(table.column(0), pa.string()).combine_chunks()


def _matching(path: Path, columns: list[str], names: tuple[str, ...]) -> str | None:
    matches = [name for name in columns if name.strip().casefold() in names]
    if len(matches) > 1:
        raise OodmlError(
            f"{path}: columns {matches} have the same meaning; remove one of them",
            location=str(path),
            given=matches,
        )
    return matches[0] if matches else None


def _safetensors_labels(path: Path, names: tuple[str, ...]) -> Any:
    """Labels of a file that `VectorSet.save` wrote, which has text in its metadata."""
    import pyarrow as pa

    from oodml.vectors import VectorSet

    vectors = VectorSet.load(path)
    return pa.array((vectors.classes if names == CLASSES else vectors.ids).tolist(), pa.string())


def _shape(path: Path) -> tuple[int, int]:
    """Rows and dimensions from the header of a file."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(path)
            batch = next(file.iter_batches(1, columns=[_vector_column(path, file)]), None)
            width = 0 if batch is None else len(batch.column(0)[0].as_py())
            return file.metadata.num_rows, width
        shape = _open_npy(path)[0] if path.suffix == ".npy" else _open_safetensors(path)[0]
    except (OSError, ValueError, TypeError) as error:
        raise OodmlError(f"{path}: cannot be read: {error}", location=str(path)) from error
    if len(shape) != 2:
        raise OodmlError(
            f"{path}: vectors must be [n d]; given {list(shape)}", location=str(path), given=shape
        )
    return shape[0], shape[1]


def _open_npy(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type, and offset of the numbers."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if np.isfortran(array):
        raise ValueError("columns are stored one after another; save the array in C order")
    return array.shape, array.dtype, array.offset


def _open_safetensors(path: Path) -> tuple[tuple[int, ...], str]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        names = [name for name in file.keys() if name in VECTORS]  # noqa: SIM118
        if len(names) != 1:
            raise ValueError(f"has no array called one of {VECTORS}")
        return tuple(file.get_slice(names[0]).get_shape()), names[0]


def _vector_column(path: Path, file: Any) -> str:
    columns = file.schema_arrow.names
    name = _matching(path, columns, VECTORS)
    if name is None:
        raise ValueError(f"no vectors in a column {VECTORS}; it has {columns}")
    return name


def _npy_chunks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """Reads the file instead of mapping it, so that pages in use do not count as memory."""
    shape, dtype, offset = _open_npy(path)
    with path.open("rb") as file:
        file.seek(offset)
        for begin in range(0, shape[0], rows):
            count = min(rows, shape[0] - begin) * shape[1]
            yield np.fromfile(file, dtype, count).reshape(-1, shape[1])


def _parquet_chunks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        name = _vector_column(path, file)
        for batch in file.iter_batches(rows, columns=[name]):
            column = batch.column(0)
            yield column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _safetensors_chunks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    from safetensors import safe_open

    shape, name = _open_safetensors(path)
    for begin in range(0, shape[0], rows):
        with safe_open(path, "np") as file:  # reopened, so that pages in use are returned
            yield file.get_slice(name)[begin : min(begin + rows, shape[0])]


_READERS = {".npy": _npy_chunks, ".parquet": _parquet_chunks, ".safetensors": _safetensors_chunks}
