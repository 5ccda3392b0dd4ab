"""Example queries with their nearest neighbors, and thumbnails of images."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from oodml.errors import OodmlError
from oodml.evaluate.neighbors import nearest_neighbors
from oodml.evaluate.query_lists import query_lists
from oodml.images.image_set import ImageSet
from oodml.report.folder import StudyFolder
from oodml.vectors import VectorSet

MAX_CANDIDATES = 400


@dataclass(frozen=True)
class Examples:
    """Queries of one split, with the ids and classes [queries k] of each method's neighbors."""

    split: str
    queries: Sequence[str]
    query_classes: Sequence[str]
    neighbors: Mapping[str, Sequence[Sequence[str]]]
    classes: Mapping[str, Sequence[Sequence[str]]]


def find_examples(
    folder: StudyFolder, split: str, n_queries: int = 8, k: int = 7, seed: int = 0
) -> Examples | None:
    """Choose queries of a split and find their neighbors with the first seed of each method.

    A random sample is ordered by the share of correct neighbors, averaged over methods, and queries
    are taken at equal distances. None if no run of the split saved its vectors.
    """
    spaces = {method: vectors for _, method, vectors in folder.first_vectors(split)}
    if not spaces:
        return None
    first = next(iter(spaces.values()))
    spaces = {name: one for name, one in spaces.items() if np.array_equal(one.ids, first.ids)}
    candidates = _candidates(first, seed)
    if not len(candidates):
        return None
    lists = query_lists(first)
    gallery = None if lists is None else lists.gallery
    options = (candidates, k, gallery)
    near = {name: nearest_neighbors(one.vectors, *options) for name, one in spaces.items()}
    own = first.labels[candidates][:, None]
    shares = [(first.labels[rows] == own).mean(axis=1) for rows in near.values()]
    taken = _evenly_spaced(first.labels[candidates], candidates, np.mean(shares, axis=0), n_queries)
    chosen, nearest = candidates[taken], {name: rows[taken] for name, rows in near.items()}
    ids, classes = (
        {name: getattr(spaces[name], part)[rows].tolist() for name, rows in nearest.items()}
        for part in ("ids", "classes")
    )
    return Examples(split, first.ids[chosen].tolist(), first.classes[chosen].tolist(), ids, classes)


def _candidates(vectors: VectorSet, seed: int) -> Int[np.ndarray, " q"]:
    lists, labels = query_lists(vectors), vectors.labels
    usable = np.bincount(labels)[labels] > 1
    if lists is not None:
        usable = lists.queries & np.isin(labels, labels[lists.gallery & ~lists.queries])
    rows = np.flatnonzero(usable)
    if len(rows) > MAX_CANDIDATES:
        rows = np.random.default_rng(seed).choice(rows, MAX_CANDIDATES, replace=False)
    return rows.astype(np.int64)


def _evenly_spaced(
    labels: Int[np.ndarray, " q"],
    rows: Int[np.ndarray, " q"],
    shares: Float[np.ndarray, " q"],
    n_queries: int,
) -> list[int]:
    """Positions at equal distances in the order of shares, of different classes if possible."""
    order, chosen = np.lexsort((rows, shares)).tolist(), list[int]()
    for part in np.array_split(order, min(n_queries, len(order))):
        seen = set(labels[chosen].tolist())
        by_distance = sorted(range(len(part)), key=lambda index: abs(index - len(part) // 2))
        new = [index for index in by_distance if labels[part[index]] not in seen]
        chosen.append(int(part[(new or by_distance)[0]]))
    return chosen


def thumbnails(
    images: ImageSet | None, ids: Iterable[str], pixels: int, budget: int
) -> dict[str, str]:
    """Data URIs of the images with given ids, until their size exceeds a budget in bytes."""
    if images is None:
        return {}
    rows = {name: row for row, name in enumerate(images.ids.tolist())}
    uris: dict[str, str] = {}
    for name in dict.fromkeys(ids):
        stream = io.BytesIO()
        try:
            image = images.read(rows[name])
            image.thumbnail((pixels, pixels))
            image.save(stream, "WEBP", quality=70)
        except (KeyError, OodmlError, OSError):  # the page shows the name instead
            continue
        uri = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
        budget -= len(uri)
        if budget < 0:
            break
        uris[name] = uri
    return uris
