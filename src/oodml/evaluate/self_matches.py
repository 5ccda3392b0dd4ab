"""Queries whose own image is in the gallery, and names that only look different.

A gallery row with the id of a query and, up to rounding, its vector is the query's own image. It
is never ranked for that query. Other copies of a query's vector and other rows with its id count
as different images, and a warning gives their number.
"""

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError
from oodml.evaluate.inputs import Array, as_labels, encode_labels, row_hashes
from oodml.label_names import look_alikes

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
TOLERANCE = 1e-3  # how far two vectors of one image may differ, relative to their length


def self_matches(
    queries: Float[Tensor, "n d"],
    gallery: Float[Tensor, "m d"],
    groups: NDArray[np.int64],
    gallery_groups: NDArray[np.int64],
    ids: Array | None,
    gallery_ids: Array | None,
) -> Pairs:
    """Find the pairs of a query and a gallery row that are the same image.

    Args:
        queries, gallery: [n d] and [m d] vectors.
        groups, gallery_groups: [n] and [m] integers from 0: equal where an image is a match.
        ids, gallery_ids: [n] and [m] the image of each row; None if unknown.

    Returns:
        The queries and the gallery rows of all pairs.
    """
    if (ids is None) != (gallery_ids is None):
        raise OodmlError("give both ids and gallery_ids, or neither", location="ids")
    pairs = _pairs_of_ids(len(queries), len(gallery), ids, gallery_ids)
    is_same = _is_close(queries, gallery, pairs)
    n_others = len(np.unique(pairs[0][~is_same]))
    pairs = pairs[0][is_same], pairs[1][is_same]
    conflicts = np.flatnonzero(groups[pairs[0]] != gallery_groups[pairs[1]])
    if len(conflicts):
        row = int(pairs[0][conflicts[0]])
        name = "" if ids is None else f" ({as_labels(ids, len(queries), 'ids')[row]!s})"
        raise OodmlError(
            f"query {row}{name} is in the gallery with another label ({len(conflicts)} images)",
            "gallery_labels",
            row,
        )
    n_copies = _count_copies(queries, gallery, groups, gallery_groups, pairs)
    if n_others:
        _warn(f"{n_others} of {len(queries)} queries share an id with a gallery image that has "
              "another vector; they count as different images")  # fmt: skip
    if n_copies:
        remedy = "; give ids of both to exclude a query's own image" if ids is None else ""
        _warn(f"{n_copies} of {len(queries)} queries have an identical vector with the same label "
              f"in the gallery, which counts as a match{remedy}")  # fmt: skip
    return pairs


def check_class_names(labels: NDArray[Any], gallery_labels: NDArray[Any]) -> None:
    """Warn about labels of queries that the gallery spells differently."""
    if labels.dtype.kind != "U" or gallery_labels.dtype.kind != "U":
        return
    pairs = look_alikes(np.unique(labels).tolist(), np.unique(gallery_labels).tolist())
    if pairs:
        name, other = next(iter(pairs.items()))
        _warn(f"{len(pairs)} labels of queries are spelled differently in the gallery, such as "
              f"{name!a} and {other!a}; they count as different classes")  # fmt: skip


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=5)


def _pairs_of_ids(n: int, m: int, ids: Array | None, gallery_ids: Array | None) -> Pairs:
    """All pairs of a query and a gallery row with the same id."""
    nothing = np.zeros(0, dtype=np.int64)
    if ids is None or gallery_ids is None:
        return nothing, nothing
    own, others = encode_labels(as_labels(ids, n, "ids"), as_labels(gallery_ids, m, "gallery_ids"))[
        1
    ]
    order = np.argsort(others, kind="stable")
    first = np.searchsorted(others[order], own, side="left")
    counts = np.searchsorted(others[order], own, side="right") - first
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(np.arange(n), counts), order[np.repeat(first, counts) + within]


def _is_close(
    queries: Float[Tensor, "n d"], gallery: Float[Tensor, "m d"], pairs: Pairs
) -> NDArray[np.bool_]:
    a, b = queries[torch.from_numpy(pairs[0])], gallery[torch.from_numpy(pairs[1])]
    scale = torch.maximum(a.abs().amax(1), b.abs().amax(1)).clamp(min=1e-300).to(torch.float64)
    a, b = a.double() / scale[:, None], b.double() / scale[:, None]
    is_close = (a - b).norm(dim=1) <= TOLERANCE * torch.maximum(a.norm(dim=1), b.norm(dim=1))
    return np.asarray(is_close.cpu().numpy())


def _count_copies(
    queries: Float[Tensor, "n d"],
    gallery: Float[Tensor, "m d"],
    groups: NDArray[np.int64],
    gallery_groups: NDArray[np.int64],
    excluded: Pairs,
) -> int:
    """The queries with an identical vector of the same group in the gallery, besides their own."""
    keys, other_keys = (
        (row_hashes(rows).cpu().numpy(), labels)
        for rows, labels in ((queries, groups), (gallery, gallery_groups))
    )
    own, others = encode_labels(*(_mix(*key) for key in (keys, other_keys)))[1]
    counts = np.bincount(others, minlength=1 + max(own.max(), others.max()))[own]
    counts = counts - np.bincount(excluded[0], minlength=len(own))
    return int((counts > 0).sum())


def _mix(hashes: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    with np.errstate(over="ignore"):
        return hashes * np.int64(6364136223846793005) + groups
