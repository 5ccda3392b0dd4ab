"""Which classes the nearest images of a class's queries have."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from oodml.evaluate.inputs import as_vectors
from oodml.evaluate.precision import comparable, difference_distances
from oodml.evaluate.query_lists import own_images, searched_rows
from oodml.lazy_torch import torch
from oodml.vectors import VectorSet

COLUMNS = ("class", "other", "count", "query", "neighbor")
BLOCK = 512


def confusions(vectors: VectorSet, distance: str = "cosine") -> pd.DataFrame:
    """Count the classes of the queries and of their nearest images.

    Queries and gallery are the vectors' own lists; without lists, every image is a query among all
    others. Queries without a positive are left out.

    Returns:
        One row per class and class of the nearest image (`other`), which are equal where the
        nearest image is correct: the number of queries (`count`), and the ids of the most similar
        such pair (`query`, `neighbor`). `superclass` is the superclass of `class`, or "".
    """
    labels, (rows, gallery) = vectors.labels, searched_rows(vectors)
    positives = np.bincount(labels[gallery], minlength=len(vectors.class_names))
    rows = rows[positives[labels[rows]] > np.isin(rows, gallery)]
    nearest, scores = _nearest(vectors, rows, gallery, distance)
    table = pd.DataFrame(
        {
            "class": vectors.classes[rows],
            "other": vectors.classes[nearest],
            "query": vectors.ids[rows],
            "neighbor": vectors.ids[nearest],
            "score": scores,
        }
    ).sort_values("score", ascending=False, kind="stable")
    pairs = table.groupby(["class", "other"])
    firsts = pairs[["query", "neighbor"]].first()
    counted = firsts.assign(count=pairs.size()).reset_index()[[*COLUMNS]]
    groups = vectors.superclass_of
    return counted.assign(superclass=[groups.get(name, "") for name in counted["class"]])


def _nearest(
    vectors: VectorSet, rows: Int[np.ndarray, " q"], gallery: Int[np.ndarray, " g"], distance: str
) -> tuple[Int[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """The row of the nearest gallery image of each query, without itself, and its similarity."""
    every = as_vectors(vectors.vectors, distance)
    sides = every[torch.from_numpy(rows)], every[torch.from_numpy(gallery)]
    pair = comparable(*sides, distance)
    others = pair.queries if pair.gallery is None else pair.gallery
    bias = others.square().sum(1) / 2 if pair.euclidean else 0.0
    own = np.full(len(rows), -1)
    own[own_images(rows, gallery)[0]] = own_images(rows, gallery)[1]
    best, scores = np.empty(len(rows), np.int64), np.empty(len(rows))
    for begin in range(0, len(rows), BLOCK):
        block = slice(begin, begin + BLOCK)
        if pair.by_differences:
            similarity = -difference_distances(pair.queries[block], others)
        else:
            similarity = pair.queries[block] @ others.T - bias
        listed = np.flatnonzero(own[block] >= 0)
        similarity[torch.from_numpy(listed), torch.from_numpy(own[block][listed])] = -torch.inf
        values, columns = similarity.max(1)
        scores[block], best[block] = values.numpy(), columns.numpy()
    return gallery[best], scores
