"""Signals of how likely a query's nearest neighbor is of its class, computed without labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.evaluate.precision import unit_rows

RANKS = (1, 2, 3, 5, 9, 17, 33)  # the neighbors whose similarities describe a query's surroundings
TEST_SIGNALS = (
    *(f"similarity {rank}" for rank in RANKS),
    "mean similarity", "spread of similarities", "similarity 1, standardized",
    "reciprocity", "rank in the neighbor's list", "shared neighbors of 5",
    "shared neighbors of 10",
)  # fmt: skip
VIEW_SIGNALS = (
    "similarity of own view", "rank of own image", "own image found", "similarity 1 of views",
    "agreement between views", "agreement with the image", "view's neighbor among 5",
    "view's neighbor among 10", "similarity of the views' neighbors",
)  # fmt: skip
BLOCK = 512


class QuerySignals(NamedTuple):
    """values: [q s] a column per name of `signal_names`. neighbors: [q] the rows of the nearest."""

    values: Float[np.ndarray, "q s"]
    neighbors: Int[np.ndarray, " q"]


class _Neighbors(NamedTuple):
    """rows, similarity: [q k] of the nearest images. mean, spread: [q] over all images. own: [q]
    the similarity to the query's own image, and own_rank: [q] the number of images before it."""

    rows: Tensor
    similarity: Tensor
    mean: Tensor
    spread: Tensor
    own: Tensor
    own_rank: Tensor


def signal_names(views: int) -> tuple[str, ...]:
    """The names of the signals for a number of augmented views; two are used, or none."""
    return (*TEST_SIGNALS, *(VIEW_SIGNALS if views >= 2 else ()), "log number of images")


def query_signals(
    views: Sequence[Float[np.ndarray, "n d"]], queries: Int[np.ndarray, " q"] | None = None
) -> QuerySignals:
    """Compute signals that need no labels for queries among all images.

    `views` are the vectors of all images under the test view, and under two augmented views if
    there are any, which search among the test views. `queries` are rows, by default all.
    """
    # A zero vector, such as that of an empty crop, has no direction: it is similar to nothing.
    units = (unit_rows(torch.as_tensor(view)).nan_to_num() for view in views[:3])
    gallery, *augmented = (unit.float() for unit in units)
    rows = torch.arange(len(gallery)) if queries is None else torch.as_tensor(queries)
    near = _neighbors(gallery[rows], gallery, rows)
    first = near.rows[:, 0]
    unique, position = torch.unique(first, return_inverse=True)
    theirs = _neighbors(gallery[unique], gallery, unique)
    their_rows = theirs.rows[position]
    closer = (theirs.similarity[position] > near.similarity[:, :1] + 1e-6).sum(1)
    last = near.rows.shape[1] - 1
    standardized = (near.similarity[:, 0] - near.mean) / near.spread
    columns = [
        *(near.similarity[:, min(rank - 1, last)] for rank in RANKS),
        *(near.mean, near.spread, standardized, their_rows[:, 0] == rows, torch.log1p(closer)),
        *(
            (near.rows[:, :k, None] == their_rows[:, None, :k]).any(2).float().mean(1)
            for k in (5, 10)
        ),
    ]
    if len(augmented) == 2:
        columns += _view_signals(gallery, [view[rows] for view in augmented], rows, near)
    columns.append(torch.full((len(rows),), float(np.log(len(gallery)))))
    values = torch.stack([column.float() for column in columns], 1)
    return QuerySignals(values.numpy().astype(np.float64), first.numpy())


def _view_signals(
    gallery: Tensor, queries: Sequence[Tensor], rows: Tensor, near: _Neighbors
) -> list[Tensor]:
    views = [_neighbors(view, gallery, rows) for view in queries]
    one, two = (view.rows[:, 0] for view in views)

    def mean(*values: Tensor) -> Tensor:
        return torch.stack([value.float() for value in values]).mean(0)

    def among(k: int) -> Tensor:
        return mean(*((near.rows[:, :k] == row[:, None]).any(1) for row in (one, two)))

    return [
        mean(*(view.own for view in views)),
        mean(*(torch.log1p(view.own_rank) for view in views)),
        mean(*(view.own_rank == 0 for view in views)),
        mean(*(view.similarity[:, 0] for view in views)),
        one == two,
        *(among(k) for k in (1, 5, 10)),
        torch.where(one == two, 1.0, (gallery[one] * gallery[two]).sum(1)),
    ]


def _neighbors(queries: Tensor, gallery: Tensor, own: Tensor) -> _Neighbors:
    """The nearest images of each query, without its own image."""
    parts, n = [], len(gallery)
    for start in range(0, len(queries), BLOCK):
        similarity = queries[start : start + BLOCK] @ gallery.T
        column = own[start : start + BLOCK, None]
        to_own = similarity.gather(1, column)
        rank = (similarity > to_own).sum(1)
        mean = (similarity.sum(1) - to_own[:, 0]) / (n - 1)
        squares = ((similarity**2).sum(1) - to_own[:, 0] ** 2) / (n - 1)
        similarity.scatter_(1, column, -torch.inf)
        values, rows = similarity.topk(min(RANKS[-1], n - 1), dim=1)
        spread = (squares - mean**2).clamp(min=1e-8).sqrt()
        parts.append((rows, values, mean, spread, to_own[:, 0], rank))
    return _Neighbors(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
