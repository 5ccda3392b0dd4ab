"""Which images are queries, which are the gallery, and which gallery images are positives.

A gallery row with the id of a query and, up to rounding, its vector is the query's own image. It
is never ranked for that query. Other copies of a query's vector and other rows with its id count
as different images, and a warning gives their number.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at
from oodml.evaluate.inputs import Array, as_labels, as_vectors, encode_labels, row_hashes
from oodml.label_names import look_alikes
from oodml.lazy_torch import Tensor, torch

Relevance = Mapping[Any, Any] | Array
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
Grouped = tuple[Float[Tensor, "_ d"], NDArray[np.int64]]
"""Vectors and their groups [n]."""
TOLERANCE = 1e-3  # how far two vectors of one image may differ, relative to their length


@dataclass(frozen=True)
class RetrievalProtocol:
    """Queries and gallery, ready to be ranked."""

    queries: Float[Tensor, "n d"]  # as given
    groups: NDArray[np.int64]  # [n]; a gallery image is a positive if its group is the query's
    gallery: Float[Tensor, "m d"] | None = None  # None if the queries are the gallery
    gallery_groups: NDArray[np.int64] | None = None  # [m]
    self_matches: Pairs | None = None
    """Pairs of a query and a gallery row with the same image, which is never ranked for that query.
    Without a gallery, these are the queries themselves."""

    @property
    def gallery_sizes(self) -> NDArray[np.int64]:
        """[n] the number of images that each query is compared with."""
        if self.gallery is None:
            return np.full(len(self.groups), len(self.groups) - 1)
        pairs = self.self_matches[0] if self.self_matches else np.zeros(0, dtype=np.int64)
        return len(self.gallery) - np.bincount(pairs, minlength=len(self.groups))


def gallery_protocol(
    vectors: Array,
    labels: Array,
    distance: str,
    relevance: Relevance | None = None,
    *,
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    gallery_relevance: Array | None = None,
    ids: Array | None = None,
    gallery_ids: Array | None = None,
) -> RetrievalProtocol:
    """The protocol for the arguments of `retrieval_metrics`."""
    queries = as_vectors(vectors, distance)
    targets = _groups(relevance, as_labels(labels, len(queries)), "relevance")
    if gallery is None:
        if any(given is not None for given in (gallery_labels, gallery_relevance, gallery_ids)):
            raise OodmlError("gallery_labels, gallery_relevance, and gallery_ids need a gallery")
        return RetrievalProtocol(queries, encode_labels(targets)[1][0])
    if gallery_labels is None:
        raise OodmlError("a gallery needs gallery_labels", location="gallery_labels")
    others = as_vectors(gallery, distance, "gallery").to(queries.device)
    check_widths(queries, others)
    searched: Relevance | None = relevance
    if relevance is not None and not isinstance(relevance, Mapping):
        searched = gallery_relevance
        if searched is None:
            problem = "relevance given as an array needs gallery_relevance for the gallery"
            raise OodmlError(problem, location="gallery_relevance")
    other_names = as_labels(gallery_labels, len(others), "gallery_labels")
    other_targets = _groups(searched, other_names, "gallery_relevance")
    if targets.dtype.kind == other_targets.dtype.kind == "U":
        similar = look_alikes(np.unique(targets).tolist(), np.unique(other_targets).tolist())
        for name, other in list(similar.items())[:1]:
            _warn(f"{len(similar)} labels of queries are spelled differently in the gallery, such "
                  f"as {name!a} and {other!a}; they count as different classes")  # fmt: skip
    groups, gallery_groups = encode_labels(targets, other_targets)[1]
    dtype = torch.promote_types(queries.dtype, others.dtype)
    queries, others = queries.to(dtype), others.to(dtype)
    pairs = self_matches((queries, groups), (others, gallery_groups), ids, gallery_ids)
    return RetrievalProtocol(queries, groups, others, gallery_groups, pairs)


def check_widths(queries: Tensor | NDArray[Any], gallery: Tensor | NDArray[Any]) -> None:
    """Refuse a gallery of other dimensions than the queries."""
    width, other = queries.shape[1], gallery.shape[1]
    if width != other:
        problem = f"gallery vectors have {other} dimensions, the queries {width}"
        raise OodmlError(problem, "gallery", other, (str(width),))


def _groups(relevance: Relevance | None, labels: NDArray[Any], name: str) -> NDArray[Any]:
    """[n] the group of each row: its label, what a mapping assigns to its label, or as given."""
    if relevance is None:
        return labels
    if not isinstance(relevance, Mapping):
        return as_labels(relevance, len(labels), name)
    missing = sorted({label for label in labels.tolist() if label not in relevance}, key=str)
    if missing:
        problem = f"no group for label {missing[0]!r} ({len(missing)} labels are missing)"
        raise error_at(name, problem, missing[0])
    return as_labels([relevance[label] for label in labels.tolist()], len(labels), name)


def self_matches(
    queries: Grouped, gallery: Grouped, ids: Array | None, gallery_ids: Array | None
) -> Pairs:
    """The queries and gallery rows of all pairs that are the same image, by their ids."""
    if (ids is None) != (gallery_ids is None):
        raise OodmlError("give both ids and gallery_ids, or neither", location="ids")
    (vectors, groups), (images, gallery_groups) = queries, gallery
    pairs = _pairs_of_ids(len(vectors), len(images), ids, gallery_ids)
    is_same = _is_close(vectors, images, pairs)
    n_others = len(np.unique(pairs[0][~is_same]))
    pairs = pairs[0][is_same], pairs[1][is_same]
    conflicts = pairs[0][groups[pairs[0]] != gallery_groups[pairs[1]]].tolist()
    if conflicts:
        name = "" if ids is None else f" ({as_labels(ids, len(vectors), 'ids')[conflicts[0]]!s})"
        problem = f"query {conflicts[0]}{name} is in the gallery with another label"
        raise OodmlError(f"{problem} ({len(conflicts)} images)", "gallery_labels", conflicts[0])
    n_copies = _count_copies(queries, gallery, pairs[0])
    if n_others:
        _warn(f"{n_others} of {len(vectors)} queries share an id with a gallery image that has "
              "another vector; they count as different images")  # fmt: skip
    if n_copies:
        remedy = "; give ids of both to exclude a query's own image" if ids is None else ""
        _warn(f"{n_copies} of {len(vectors)} queries have an identical vector with the same label "
              f"in the gallery, which counts as a match{remedy}")  # fmt: skip
    return pairs


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=5)


def _pairs_of_ids(n: int, m: int, ids: Array | None, gallery_ids: Array | None) -> Pairs:
    """All pairs of a query and a gallery row with the same id."""
    if ids is None or gallery_ids is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    names = as_labels(ids, n, "ids"), as_labels(gallery_ids, m, "gallery_ids")
    own, others = encode_labels(*names)[1]
    order = np.argsort(others, kind="stable")
    first, last = (np.searchsorted(others[order], own, side) for side in ("left", "right"))
    counts = last - first
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


def _count_copies(queries: Grouped, gallery: Grouped, excluded: NDArray[np.int64]) -> int:
    """The queries with an identical vector of the same group in the gallery, besides their own."""
    keys = []
    for rows, groups in (queries, gallery):
        with np.errstate(over="ignore"):
            keys.append(row_hashes(rows).cpu().numpy() * np.int64(6364136223846793005) + groups)
    own, others = encode_labels(*keys)[1]
    counts = np.bincount(others, minlength=1 + max(own.max(), others.max()))[own]
    return int((counts > np.bincount(excluded, minlength=len(own))).sum())
