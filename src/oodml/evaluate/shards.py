"""A folder of vector files that is read in chunks, so that it need not fit into memory."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from oodml.arrays import as_float_array
from oodml.errors import OodmlError, error_at
from oodml.label_names import MISSING_TEXT, find_missing, missing_error
from oodml.vector_columns import CLASSES, IDS, VECTORS
from oodml.vectors import VectorSet

SUFFIXES = (".npy", ".parquet", ".safetensors")
CHUNK = 2**22
"""Numbers per chunk that is read from a file; as float32, they fit into a cache."""
FEW = 16
"""A share of 1/16 of the rows of a .npy file is read by position instead of reading all."""
CPU = torch.device("cpu")
Spread = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]
"""Calls a function with the arguments of each job, in order: `itertools.starmap`, or on nodes."""


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

    def chunks(self, device: torch.device = CPU) -> Iterator[Float[Tensor, "m d"]]:
        """The vectors in order, as finite float32 or float64, some rows at a time.

        A chunk may be overwritten when the next is read, which CUDA copies from pinned memory.
        """
        is_cuda, begin = device.type == "cuda", 0
        buffers = [torch.empty(0)] * 2
        copied: list[Any] = [torch.Event(device) for _ in range(2 * is_cuda)]
        read = _read(self.path, max(1, CHUNK // self.dimensions))
        for slot, part in zip(itertools.cycle((0, 1)), read, strict=False):
            is_half = part.dtype == np.float16
            chunk = np.require(part, None, "W") if is_half else as_float_array(part, f"{self.path}")
            rows = torch.from_numpy(chunk)
            if is_cuda or is_half:
                dtype = rows.dtype if is_cuda else torch.float32
                if is_cuda:
                    copied[slot].synchronize()
                if buffers[slot].dtype != dtype or len(buffers[slot]) < len(rows):
                    buffers[slot] = torch.empty(rows.shape, dtype=dtype, pin_memory=is_cuda)
                rows = buffers[slot][: len(rows)].copy_(rows)
            self._check(rows, begin)
            begin += len(rows)
            moved = rows.to(device, non_blocking=True)
            if is_cuda:
                copied[slot].record()
            yield moved.float() if is_half else moved

    def _check(self, rows: Float[Tensor, "m d"], begin: int) -> None:
        if not torch.isfinite(rows.sum(dtype=torch.promote_types(rows.dtype, torch.float32))):
            bad = (~torch.isfinite(rows)).any(1).nonzero()
            if len(bad):
                row = begin + int(bad[0])
                raise error_at(self.path, f"the vector of row {row} is not finite", row)

    def select(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """[r d] the vectors of rows in ascending order."""
        if self.path.suffix == ".npy" and FEW * len(rows) < self.rows:
            with _reading(self.path):
                return as_float_array(np.asarray(_map_npy(self.path)[rows]), str(self.path))
        parts, begin = [np.empty((0, self.dimensions), np.float32)], 0
        for chunk in self.chunks():
            low, high = np.searchsorted(rows, (begin, begin + len(chunk)))
            parts.append(chunk.numpy()[rows[low:high] - begin])
            begin += len(chunk)
        return np.concatenate(parts)

    def sum(self) -> NDArray[np.float64]:
        """[d] the sum of the vectors."""
        chunks = (chunk.numpy().sum(0, dtype=np.float64) for chunk in self.chunks())
        return sum(chunks, np.zeros(self.dimensions))

    def labels(self, names: tuple[str, ...] = CLASSES) -> Any:
        """The column with one of the names as a pyarrow array of text, or None."""
        path = self.labels_path
        try:
            if path.suffix == ".safetensors":  # `VectorSet.save` writes text into its metadata
                vectors = VectorSet.load(path)
                texts = vectors.classes if names == CLASSES else vectors.ids
                return pa.array(texts.tolist(), pa.string())
            if path.suffix == ".parquet":
                column = _matching(path, pa.parquet.read_schema(path).names, names)
                if column is None:
                    return None
                table = pa.parquet.read_table(path, columns=[column])
            else:
                with pa.csv.open_csv(path) as reader:
                    types = dict.fromkeys(reader.schema.names, pa.string())
                column = _matching(path, [*types], names)
                if column is None:
                    return None
                options = {"column_types": types, "include_columns": [column]}
                options = pa.csv.ConvertOptions(strings_can_be_null=False, **options)
                table = pa.csv.read_csv(path, convert_options=options)
        except (OSError, pa.ArrowException) as error:
            raise error_at(path, str(error)) from error
        if len(table) != self.rows:
            raise error_at(path, f"{len(table)} rows for {self.rows} vectors", len(table))
        return pc.cast(table.column(0), pa.string()).combine_chunks()

    def classes(self) -> Any:
        """The classes as a pyarrow dictionary array; missing ones are refused with their row."""
        column = self.labels()
        if column is None:
            raise error_at(self.labels_path, "no column of classes", allowed=CLASSES)
        encoded = column.dictionary_encode()
        trimmed = pc.utf8_trim_whitespace(encoded.dictionary)
        if column.null_count or pc.any(pc.is_in(trimmed, pa.array(["", *MISSING_TEXT]))).as_py():
            values = column.to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(find_missing(values))
            if len(rows):
                raise missing_error(values, rows, "classes", str(self.labels_path))
        return encoded


class Shards:
    """The vectors of all files of a folder, in the order of their names, or of one file.

    Files are .npy with labels in a .csv of the same name, .parquet, or .safetensors; `spread` reads
    them on other machines. Raises an OodmlError if there are none, or their dimensions differ.
    """

    def __init__(self, folder: str | Path, spread: Spread = itertools.starmap) -> None:
        self.folder, self.spread = Path(folder), spread
        files = self.folder.iterdir() if self.folder.is_dir() else [self.folder]
        visible = (path for path in files if not path.name.startswith("."))  # not half-written
        paths = sorted(path for path in visible if path.suffix in SUFFIXES and path.is_file())
        if not paths:
            problem = f"no file of vectors. Allowed: {', '.join(SUFFIXES)}"
            raise error_at(folder, problem, allowed=SUFFIXES)
        self.shards = [Shard(path.absolute(), *_shape(path)) for path in paths]
        for shard in self.shards:
            if shard.dimensions != self.dimensions:
                problem = f"{shard.dimensions} dimensions, {paths[0].name} has {self.dimensions}"
                raise error_at(shard.path, problem, shard.dimensions, (str(self.dimensions),))

    @property
    def dimensions(self) -> int:
        """The number of dimensions of every vector."""
        return self.shards[0].dimensions

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def classes(self, names: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """The distinct classes (or `names`), and [n] the position of each row's, -1 for others."""
        columns = [shard.classes() for shard in self.shards]
        if names is None:
            names = np.array(sorted(set().union(*(c.dictionary.to_pylist() for c in columns))))
        wanted = pa.array(names.tolist(), pa.string())
        positions = [pc.index_in(c.dictionary, wanted).fill_null(-1).to_numpy() for c in columns]
        codes = [at[c.indices.to_numpy()] for at, c in zip(positions, columns, strict=True)]
        return names, np.concatenate(codes).astype(np.int32)

    def ids(self, rows: NDArray[np.int64] | None = None) -> NDArray[Any] | None:
        """The ids of some rows in ascending order, or None if the files have no ids."""
        parts = [np.empty(0, dtype=np.str_)]
        for shard, local in self.split(np.arange(len(self)) if rows is None else rows):
            column = shard.labels(IDS)
            if column is None:
                return None
            parts.append(np.asarray(column.take(local).to_pylist(), dtype=np.str_))
        return np.concatenate(parts)

    def rows_with_ids(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """The rows that have one of the ids."""
        wanted, begin, rows = pa.array(ids.tolist(), pa.string()), 0, [np.empty(0, np.int64)]
        for shard in self.shards:
            column = shard.labels(IDS)
            if column is not None:
                rows.append(begin + np.flatnonzero(pc.is_in(column, wanted).to_numpy(False)))
            begin += shard.rows
        return np.concatenate(rows)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """[r d] the vectors of rows in ascending order."""
        jobs = [(shard, local) for shard, local in self.split(rows) if len(local)]
        empty = np.empty((0, self.dimensions), np.float32)
        return np.concatenate([empty, *self.spread(Shard.select, jobs)])

    def mean(self) -> Float[Tensor, " d"]:
        """[d] the float64 mean of all vectors."""
        sums = self.spread(Shard.sum, [(shard,) for shard in self.shards])
        return torch.from_numpy(sum(sums, np.zeros(self.dimensions)) / len(self))

    def split(self, rows: NDArray[np.int64]) -> Iterator[tuple[Shard, NDArray[np.int64]]]:
        """Every file, and which of the rows, in ascending order, are in it."""
        begin = 0
        for shard in self.shards:
            low, high = np.searchsorted(rows, (begin, begin + shard.rows))
            yield shard, rows[low:high] - begin
            begin += shard.rows


def _matching(path: Path, columns: list[str], names: tuple[str, ...]) -> str | None:
    matches = [name for name in columns if name.strip().casefold() in names]
    if len(matches) > 1:
        problem = f"columns {matches} have the same meaning; remove one of them"
        raise error_at(path, problem, matches)
    return matches[0] if matches else None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OodmlError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise error_at(path, f"cannot be read: {error}") from error


def _shape(path: Path) -> tuple[int, int]:
    """Rows and dimensions from the header of a file."""
    with _reading(path):
        if path.suffix == ".parquet":
            file = pyarrow.parquet.ParquetFile(path)
            batch = next(file.iter_batches(1, columns=[_vector_column(path, file)]), None)
            width = 0 if batch is None else len(batch.column(0)[0].as_py())
            return file.metadata.num_rows, width
        shape = _map_npy(path).shape if path.suffix == ".npy" else _open_safetensors(path)[0]
    if len(shape) != 2:
        raise error_at(path, f"vectors must be [n d]; given {list(shape)}", shape)
    return shape[0], shape[1]


def _map_npy(path: Path) -> np.memmap[Any, Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if np.isfortran(array):
        raise ValueError("columns are stored one after another; save the array in C order")
    return array  # type: ignore[no-any-return]


def _open_safetensors(path: Path) -> tuple[tuple[int, ...], str]:
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


def _read(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """Vectors in the type of the file; pages that are mapped would count as memory."""
    with _reading(path):
        if path.suffix == ".npy":
            array = _map_npy(path)
            with path.open("rb") as file:
                file.seek(array.offset)
                for begin in range(0, len(array), rows):
                    count = min(rows, len(array) - begin) * array.shape[1]
                    yield np.fromfile(file, array.dtype, count).reshape(-1, array.shape[1])
        elif path.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                name = _vector_column(path, file)
                for batch in file.iter_batches(rows, columns=[name]):
                    column = batch.column(0)
                    yield column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        else:
            shape, name = _open_safetensors(path)
            for begin in range(0, shape[0], rows):
                with safe_open(path, "np") as file:  # reopened, so that pages in use are returned
                    yield file.get_slice(name)[begin : min(begin + rows, shape[0])]
