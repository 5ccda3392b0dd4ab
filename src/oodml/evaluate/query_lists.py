"""A dataset's own lists of queries and of the gallery that they are searched in (In-shop)."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from oodml.arrays import Names

QUERY, GALLERY, BOTH, UNLISTED = "query", "gallery", "both", "unlisted"


@dataclass(frozen=True)
class QueryLists:
    """Which rows are queries [n], and which are the gallery [n]; a row can be both."""

    queries: Bool[np.ndarray, " n"]
    gallery: Bool[np.ndarray, " n"]

    def without(self, rows: Any) -> "QueryLists":
        """The lists without some rows."""
        queries, gallery = self.queries.copy(), self.gallery.copy()
        queries[rows] = gallery[rows] = False
        return QueryLists(queries, gallery)

    def arguments(self, vectors: Any, labels: Any) -> dict[str, Any]:
        """The arguments of `retrieval_metrics` for vectors [n d] with labels [n]."""
        rows, first, second = np.arange(len(labels)), self.queries, self.gallery
        arguments = {"vectors": vectors[first], "labels": labels[first]}
        if (first == second).all():  # every query searches all others
            return arguments
        if (first & second).any():
            arguments |= {"ids": rows[first], "gallery_ids": rows[second]}
        return arguments | {"gallery": vectors[second], "gallery_labels": labels[second]}


def retrieval_arguments(vectors: Any, labels: Any, lists: QueryLists | None) -> dict[str, Any]:
    """The arguments of `retrieval_metrics`; without lists, every row searches all others."""
    if lists is None:
        return {"vectors": vectors, "labels": labels}
    return lists.arguments(vectors, labels)


def query_lists(images: Any) -> QueryLists | None:
    """The lists of images or vectors, from their `partition`; None if they have none."""
    if (parts := listed_parts(images)) is None:
        return None
    return QueryLists(np.isin(parts, (QUERY, BOTH)), np.isin(parts, (GALLERY, BOTH)))


def searched_rows(images: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the queries and of the gallery; without lists, both are all rows."""
    lists, every = query_lists(images), np.arange(len(images.classes))
    return (every, every) if lists is None else (every[lists.queries], every[lists.gallery])


def split_lists(vectors: Any) -> tuple[Any, Any]:
    """The queries and the gallery of vectors by their lists; without lists, all and None."""
    lists = query_lists(vectors)
    if lists is None:
        return vectors, None
    named = replace(vectors, source={})  # row numbers name the images, too
    return named.select(lists.queries), named.select(lists.gallery)


def own_images(
    rows: NDArray[np.int64], gallery: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions of the rows that are queries and in the gallery: in either list."""
    positions = np.intersect1d(rows, gallery, assume_unique=True, return_indices=True)[1:]
    return positions[0], positions[1]


def listed_parts(images: Any) -> Names | None:
    """[n] "query", "gallery", "both", or "unlisted" for every row; None without lists.

    Classes without lists, which a split moved from training to testing, are divided in the same
    way: sorted by id, their images are alternately queries and gallery.
    """
    parts: Names | None = images.partition
    present = set() if parts is None else set(parts.tolist())
    if parts is None or not ({QUERY, GALLERY} <= present or BOTH in present):
        return None
    parts = parts.astype("U8")
    moved = np.flatnonzero(~np.isin(parts, (QUERY, GALLERY, BOTH, UNLISTED)))
    order = moved[np.lexsort((images.ids[moved], images.classes[moved]))]
    first = np.unique(images.classes[order], return_index=True, return_inverse=True)
    is_query = (np.arange(len(order)) - first[1][first[2]]) % 2 == 0
    parts[order] = np.where(is_query, QUERY, GALLERY)
    return parts
