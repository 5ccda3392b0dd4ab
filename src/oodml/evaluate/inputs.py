"""What every measure takes: vectors and labels in any common form, checked row by row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError, unknown

Array = Tensor | NDArray[Any] | Sequence[Any]


def as_vectors(vectors: Array, distance: str = "euclidean", name: str = "vectors") -> Tensor:
    """[n d] in float32 (float64 stays), of length 1 a row where the distance is the cosine.

    Raises `OodmlError` for no rows, a row that is not finite, and, with "cosine", a zero row.
    """
    if distance not in ("cosine", "euclidean"):
        raise unknown("distance", distance, ("cosine", "euclidean"))
    given = torch.as_tensor(np.asarray(vectors) if isinstance(vectors, Sequence) else vectors)
    if given.ndim != 2 or given.numel() == 0:
        raise OodmlError(f"{name} must be [n d], at least one row; given {list(given.shape)}")
    rows = given.detach().to(torch.float64 if given.dtype == torch.float64 else torch.float32)
    refuse_rows(~torch.isfinite(rows.sum(1)) & ~torch.isfinite(rows).all(1), name, "is not finite")
    if distance == "euclidean":
        return rows
    norms = rows.norm(dim=1, keepdim=True)
    if not ((norms > 1e-15) & (norms < 1e15)).all():  # where squares may under- or overflow
        largest = rows.abs().amax(1, keepdim=True)
        why = "is zero and has no direction; use distance='euclidean'"
        refuse_rows(largest[:, 0] == 0, name, why)
        rows = rows / largest
        norms = rows.norm(dim=1, keepdim=True)
    return torch.div(rows, norms)


def refuse_rows(bad: Tensor, name: str, why: str) -> None:
    """Raise `OodmlError` naming the first row of the mask `bad` [n], if any is set."""
    rows = bad.nonzero()[:, 0]
    if len(rows):
        raise OodmlError(f"{name}: row {int(rows[0])} {why}; {len(rows)} of {len(bad)} rows are so")


def as_labels(labels: Array, n: int, name: str = "labels") -> NDArray[Any]:
    """[n] integers or strings as given, without passing through a float."""
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.shape != (n,):
        raise OodmlError(f"{name} must be [{n}], one a row; given shape {list(values.shape)}")
    if values.dtype.kind == "O":
        kinds = {str if isinstance(value, str) else type(value) for value in values.tolist()}
        values = values.astype(np.str_) if kinds == {str} else np.array(values.tolist())
    if values.dtype.kind not in "iubU":
        raise OodmlError(f"{name} must be integers or strings; given {values.dtype}")
    return values


def encode_labels(*labels: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[np.int64]]]:
    """The distinct labels of all arrays, sorted, and each array as positions among them."""
    if len({values.dtype.kind == "U" for values in labels}) > 1:
        kinds = ", ".join(str(values.dtype) for values in labels)
        raise OodmlError(f"labels of queries and gallery must be of one kind; given {kinds}")
    joined = np.concatenate(labels)
    if joined.dtype.kind == "f":  # numpy joins int64 and uint64 as float64, merging large ids
        joined = np.concatenate([values.astype(object) for values in labels])
    distinct, inverse = np.unique(joined, return_inverse=True)
    ends = np.cumsum([len(values) for values in labels])[:-1]
    return distinct, [part.astype(np.int64) for part in np.split(inverse, ends)]


def as_relevance(
    relevance: Mapping[Any, Any] | Array, labels: NDArray[Any], name: str
) -> NDArray[Any]:
    """[n] the group of each row: of its label by a mapping (class to superclass), or as given."""
    if not isinstance(relevance, Mapping):
        return as_labels(relevance, len(labels), name)
    missing = sorted({label for label in labels.tolist() if label not in relevance}, key=str)
    if missing:
        raise OodmlError(f"{name}: no group for label {missing[0]!r} ({len(missing)} are missing)")
    return as_labels([relevance[label] for label in labels.tolist()], len(labels), name)


def find_duplicates(vectors: Float[Tensor, "n d"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """The rows that repeat an earlier row exactly, and that earlier row of each."""
    if len(torch.unique(_hashes(vectors[:, :: -(-vectors.shape[1] // 8)]))) == len(vectors):
        nothing = torch.zeros(0, dtype=torch.int64, device=vectors.device)
        return nothing, nothing
    inverse = torch.unique(_hashes(vectors), return_inverse=True)[1]
    positions = torch.arange(len(vectors), device=vectors.device)
    first = torch.full_like(positions, len(vectors))
    first = first.scatter_reduce(0, inverse, positions, "amin")[inverse]
    repeated = (first != positions).nonzero()[:, 0]
    same = (vectors[repeated] == vectors[first[repeated]]).all(1)
    return repeated[same], first[repeated][same]


def _hashes(vectors: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    generator = torch.Generator().manual_seed(0)
    # Adding zero makes -0.0 and 0.0, which compare equal, the same bits.
    words = [(part + 0.0).view(torch.int32) for part in torch.split(vectors, 4096)]
    mixers = torch.randint(-(2**62), 2**62, (words[0].shape[1],), generator=generator)
    mixers = mixers.to(vectors.device)
    return torch.cat([(part * mixers).sum(1) for part in words])
