"""Which images are queries, which are the gallery, and which gallery images are positives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError
from oodml.evaluate.inputs import Array, as_labels, as_vectors, encode_labels

Relevance = Mapping[Any, Any] | Array


@dataclass(frozen=True)
class RetrievalProtocol:
    """Queries and gallery, ready to be ranked.

    Attributes:
        queries: [n d] vectors.
        groups: [n] integers; a gallery image is a positive if its group is the query's.
        gallery: [m d] vectors, or None if the queries are the gallery.
        gallery_groups: [m] integers, or None.
    """

    queries: Float[Tensor, "n d"]
    groups: NDArray[np.int64]
    gallery: Float[Tensor, "m d"] | None = None
    gallery_groups: NDArray[np.int64] | None = None


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
    gallery: Array,
    gallery_labels: Array | None,
    distance: str,
    relevance: Relevance | None,
    gallery_relevance: Array | None,
) -> RetrievalProtocol:
    """Queries are searched for in a separate gallery; arguments as in `retrieval_metrics`."""
    if gallery_labels is None:
        raise OodmlError("a gallery needs gallery_labels", location="gallery_labels")
    queries = as_vectors(vectors, distance)
    others = as_vectors(gallery, distance, "gallery").to(queries.device)
    if others.shape[1] != queries.shape[1]:
        raise OodmlError(
            f"gallery vectors have {others.shape[1]} dimensions, the queries {queries.shape[1]}",
            location="gallery",
            given=others.shape[1],
            allowed=(str(queries.shape[1]),),
        )
    if relevance is not None and not isinstance(relevance, Mapping) and gallery_relevance is None:
        raise OodmlError(
            "relevance given as an array needs gallery_relevance for the gallery",
            location="gallery_relevance",
        )
    relevance_there = relevance if isinstance(relevance, Mapping) else gallery_relevance
    if relevance is None:
        relevance_there = None
    groups, others_groups = encode_labels(
        _groups(relevance, as_labels(labels, len(queries)), "relevance"),
        _groups(
            relevance_there,
            as_labels(gallery_labels, len(others), "gallery_labels"),
            "gallery_relevance",
        ),
    )[1]
    dtype = torch.promote_types(queries.dtype, others.dtype)
    return RetrievalProtocol(queries.to(dtype), groups, others.to(dtype), others_groups)


def _groups(relevance: Relevance | None, labels: NDArray[Any], name: str) -> NDArray[Any]:
    """[n] the group of each row: its label, what a mapping assigns to its label, or as given."""
    if relevance is None:
        return labels
    if not isinstance(relevance, Mapping):
        return as_labels(relevance, len(labels), name)
    missing = sorted({label for label in labels.tolist() if label not in relevance}, key=str)
    if missing:
        raise OodmlError(
            f"{name}: no group for label {missing[0]!r} ({len(missing)} labels are missing)",
            location=name,
            given=missing[0],
        )
    return as_labels([relevance[label] for label in labels.tolist()], len(labels), name)
