"""Which images are queries, which are the gallery, and which gallery images are positives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError, error_at
from oodml.evaluate.inputs import Array, as_labels, as_vectors, encode_labels
from oodml.evaluate.self_matches import check_class_names, self_matches

Relevance = Mapping[Any, Any] | Array


@dataclass(frozen=True)
class RetrievalProtocol:
    """Queries and gallery, ready to be ranked.

    Attributes:
        queries: [n d] vectors as given.
        groups: [n] integers; a gallery image is a positive if its group is the query's.
        gallery: [m d] vectors, or None if the queries are the gallery.
        gallery_groups: [m] integers, or None.
        self_matches: pairs of a query and a gallery row with the same image, which is never
            ranked for that query. Without a gallery, these are the queries themselves.
    """

    queries: Float[Tensor, "n d"]
    groups: NDArray[np.int64]
    gallery: Float[Tensor, "m d"] | None = None
    gallery_groups: NDArray[np.int64] | None = None
    self_matches: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def gallery_sizes(self) -> NDArray[np.int64]:
        """[n] the number of images that each query is compared with."""
        if self.gallery is None:
            return np.full(len(self.groups), len(self.groups) - 1)
        pairs = self.self_matches[0] if self.self_matches else np.zeros(0, dtype=np.int64)
        return len(self.gallery) - np.bincount(pairs, minlength=len(self.groups))


def query_protocol(
    vectors: Array, labels: Array, distance: str, relevance: Relevance | None
) -> RetrievalProtocol:
    """Every image is a query among all others; arguments as in `retrieval_metrics`."""
    queries = as_vectors(vectors, distance)
    groups = _groups(relevance, as_labels(labels, len(queries)), "relevance")
    return RetrievalProtocol(queries, encode_labels(groups)[1][0])


def gallery_protocol(
    vectors: Array,
    labels: Array,
    distance: str,
    relevance: Relevance | None,
    *,
    gallery: Array,
    gallery_labels: Array | None,
    gallery_relevance: Array | None,
    ids: Array | None,
    gallery_ids: Array | None,
) -> RetrievalProtocol:
    """Queries are searched for in a separate gallery; arguments as in `retrieval_metrics`."""
    if gallery_labels is None:
        raise OodmlError("a gallery needs gallery_labels", location="gallery_labels")
    queries = as_vectors(vectors, distance)
    others = as_vectors(gallery, distance, "gallery").to(queries.device)
    if others.shape[1] != queries.shape[1]:
        raise OodmlError(
            f"gallery vectors have {others.shape[1]} dimensions, the queries {queries.shape[1]}",
            "gallery",
            others.shape[1],
            (str(queries.shape[1]),),
        )
    other_relevance: Relevance | None = None
    if isinstance(relevance, Mapping):
        other_relevance = relevance
    elif relevance is not None:
        other_relevance = gallery_relevance
    if relevance is not None and other_relevance is None:
        problem = "relevance given as an array needs gallery_relevance for the gallery"
        raise OodmlError(problem, location="gallery_relevance")
    names = as_labels(labels, len(queries))
    other_names = as_labels(gallery_labels, len(others), "gallery_labels")
    targets = _groups(relevance, names, "relevance")
    other_targets = _groups(other_relevance, other_names, "gallery_relevance")
    check_class_names(targets, other_targets)
    groups, gallery_groups = encode_labels(targets, other_targets)[1]
    dtype = torch.promote_types(queries.dtype, others.dtype)
    queries, others = queries.to(dtype), others.to(dtype)
    pairs = self_matches(queries, others, groups, gallery_groups, ids, gallery_ids)
    return RetrievalProtocol(queries, groups, others, gallery_groups, pairs)


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
