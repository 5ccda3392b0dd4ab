"""Vectors and labels in any common form, checked row by row."""

import warnings
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from oodml.arrays import as_float_array
from oodml.errors import OodmlError, error_at, unknown
from oodml.label_names import MISSING_TEXT, as_label_array, find_missing, missing_error
from oodml.lazy_torch import Tensor, torch


@runtime_checkable
class SupportsArray(Protocol):
    """What numpy converts to an array, such as a pandas series or data frame."""

    def __array__(self) -> NDArray[Any]: ...

    def __len__(self) -> int: ...


Array = Tensor | NDArray[Any] | Sequence[Any] | SupportsArray
DISTANCES = ("cosine", "euclidean", "poincare")


def as_vectors(vectors: Array, distance: str = "euclidean", name: str = "vectors") -> Tensor:
    """Convert vectors [n d] of any real type to finite rows that the distance is defined for.

    They are returned as given, in float64 or float32; see `as_float_array`.
    """
    if distance not in DISTANCES:
        raise unknown("distance", distance, DISTANCES)
    if isinstance(vectors, torch.Tensor) and vectors.dtype in (torch.float32, torch.float64):
        rows = vectors.detach().to_dense()
    else:
        rows = torch.from_numpy(as_float_array(vectors, name))
    if isinstance(vectors, torch.Tensor):
        rows = rows.to(vectors.device)
    if rows.ndim != 2 or rows.numel() == 0:
        problem = f"{name} must be [n d] with at least one row; given {list(rows.shape)}"
        raise OodmlError(problem, name, tuple(rows.shape))
    norms = rows.norm(dim=1)  # may over- or underflow
    if not torch.isfinite(norms).all():
        refuse_rows(~torch.isfinite(rows).all(1), name, "is not finite")
    if distance == "cosine" and not norms.all():
        reason = "is zero and has no direction; use distance='euclidean'"
        refuse_rows(~rows.any(1), name, reason)
    if distance == "poincare":
        refuse_rows(rows.double().norm(dim=1) >= 1, name, "is not inside the unit ball")
    return rows


def refuse_rows(is_bad: Bool[Tensor, " n"], name: str, reason: str) -> None:
    """Raise an error that names the first bad row."""
    rows = is_bad.nonzero()[:, 0]
    if len(rows):
        problem = f"row {int(rows[0])} {reason} ({len(rows)} of {len(is_bad)} rows)"
        raise error_at(name, problem, int(rows[0]))


def as_labels(labels: Array, n: int, name: str = "labels") -> NDArray[Any]:
    """Convert labels to an array [n] of integers or strings, never through floats."""
    values = as_label_array(labels)
    if values.shape != (n,):
        problem = f"{name} must be [{n}], one per row; given shape {list(values.shape)}"
        raise OodmlError(problem, name, values.shape)
    missing = np.flatnonzero(find_missing(values, literal=True))
    if len(missing):
        raise missing_error(values, missing, name, "")
    suspicious = values.dtype.kind == "U" and np.isin(values, MISSING_TEXT)
    if np.any(suspicious):
        warnings.warn(
            f"{name}: {int(np.sum(suspicious))} rows are called 'nan' or 'None', as missing "
            "labels are when converted to text; they count as a class",
            stacklevel=3,
        )
    if values.dtype.kind == "O":
        kinds = {str if isinstance(value, str) else type(value) for value in values.tolist()}
        if str in kinds and len(kinds) > 1:
            message = f"{name} must be integers or strings, not both"
            raise OodmlError(message, location=name, given=kinds)
        values = values.astype(np.str_) if kinds == {str} else np.array(values.tolist())
    if values.dtype.kind not in "iubU":
        message = f"{name} must be integers or strings; given {values.dtype}"
        raise OodmlError(message, name, str(values.dtype))
    return values


def check_seed(seed: int, bits: int = 63) -> None:
    """Refuse a seed that a random generator cannot use."""
    is_integer = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not is_integer or not 0 <= seed < 2**bits:
        raise error_at("seed", f"{seed!r}; allowed: whole numbers from 0 to {2**bits - 1}", seed)


def encode_labels(*labels: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[np.int64]]]:
    """The distinct labels of all arrays, sorted, and each array as indices into them."""
    if len({values.dtype.kind == "U" for values in labels}) > 1:
        kinds = ", ".join(str(values.dtype) for values in labels)
        problem = f"labels of queries and gallery must have the same type; given {kinds}"
        raise OodmlError(f"{problem}. Convert both to text", "labels", kinds)
    joined = np.concatenate(labels)
    if joined.dtype.kind == "f":  # numpy joins int64 and uint64 as float64, which merges large ids
        joined = np.concatenate([values.astype(object) for values in labels])
    distinct, inverse = np.unique(joined, return_inverse=True)
    ends = np.cumsum([len(values) for values in labels])[:-1]
    return distinct, [part.astype(np.int64) for part in np.split(inverse, ends)]


def find_duplicates(vectors: Float[Tensor, "n d"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Find rows that repeat an earlier row exactly, and the first occurrence of each."""
    if len(torch.unique(row_hashes(vectors[:, :: -(-vectors.shape[1] // 8)]))) == len(vectors):
        empty = torch.zeros(0, dtype=torch.int64, device=vectors.device)
        return empty, empty
    inverse = torch.unique(row_hashes(vectors), return_inverse=True)[1]
    positions = torch.arange(len(vectors), device=vectors.device)
    first = torch.full_like(positions, len(vectors))
    first = first.scatter_reduce(0, inverse, positions, "amin")[inverse]
    repeated = (first != positions).nonzero()[:, 0]
    is_equal = (vectors[repeated] == vectors[first[repeated]]).all(1)
    return repeated[is_equal], first[repeated][is_equal]


def row_hashes(vectors: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """A hash of each row; equal rows have equal hashes."""
    generator = torch.Generator().manual_seed(0)
    # Adding zero gives -0.0 and 0.0, which compare equal, the same bits.
    words = [(part + 0.0).view(torch.int32) for part in torch.split(vectors, 4096)]
    factors = torch.randint(-(2**62), 2**62, (words[0].shape[1],), generator=generator)
    factors = factors.to(vectors.device)
    return torch.cat([(part * factors).sum(1) for part in words])
