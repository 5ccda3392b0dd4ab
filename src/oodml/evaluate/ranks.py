"""The rank of each positive among all other images of its query.

Every retrieval metric is a function of these. Scores are made a tile at a time, queries by
gallery; what a tile adds to the count of images above each positive is taken while it is in
the cache, and the tile is overwritten. There is no n×n matrix and no sort of the gallery.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from oodml.evaluate.inputs import find_duplicates
from oodml.evaluate.ties import place

QUERIES = 512
TILE = 1024
SCRATCH = 2**20  # comparisons held at once; few calls, and yet their results stay in a cache
STRIP = 2**26  # most scores held at once
PAIRS = 2**14  # of positives in a block, of which none ties, that show ties to be accidents
FEW = 256  # positives a query, above which sorting a tile is cheaper than comparing with each


@dataclass(frozen=True)
class RankBlock:
    """Ranks for some of the queries.

    rows: which queries. counts: positives of each, at least one.
    ranks: from 1, ascending in a row; entries beyond the row's count have no meaning.
    """

    rows: Int[Tensor, " b"]
    counts: Int[Tensor, " b"]
    ranks: Int[Tensor, "b p"]

    @property
    def valid(self) -> Bool[Tensor, "b p"]:
        slots = torch.arange(self.ranks.shape[1], device=self.ranks.device)
        return slots < self.counts[:, None]


@dataclass(frozen=True)
class _Layout:
    """Queries and gallery in an order in which a query's positives lie side by side.

    rows: [q] the queries that have a positive. columns: [g] the gallery, permuted.
    start, count: [q] where the query's group lies among the columns, and its size.
    own: [q] the query's own place in its group, or None where queries are not in the gallery.
    """

    rows: Int[Tensor, " q"]
    columns: Int[Tensor, " g"]
    start: Int[Tensor, " q"]
    count: Int[Tensor, " q"]
    own: Int[Tensor, " q"] | None

    def part(self, taken: slice) -> "_Layout":
        """The same for some of the queries."""
        own = None if self.own is None else self.own[taken]
        return _Layout(self.rows[taken], self.columns, self.start[taken], self.count[taken], own)


def positive_ranks(
    queries: Float[Tensor, "n d"],
    query_groups: NDArray[np.int64],
    gallery: Float[Tensor, "m d"] | None,
    gallery_groups: NDArray[np.int64] | None,
    *,
    euclidean: bool,
    generator: torch.Generator,
) -> Iterator[RankBlock]:
    """Blocks of ranks, in no particular order; queries without a positive are left out.

    Groups are integers from 0: a gallery image is a positive if its group is the query's.
    Without a gallery the queries are it, and a query is never its own neighbour. Closer is a
    larger dot product or, if `euclidean`, a smaller distance.
    """
    layout = _lay_out(query_groups, gallery_groups, queries.device)
    if euclidean:  # distances do not change, and the scores lose less to cancellation
        centre = (queries if gallery is None else gallery).mean(0, dtype=torch.float64)
        queries = queries - centre.to(queries.dtype)
        gallery = None if gallery is None else gallery - centre.to(queries.dtype)
    columns = (queries if gallery is None else gallery)[layout.columns]
    bias = -columns.square().sum(1) / 2 if euclidean else None
    repeated = find_duplicates(columns)
    scratch = columns.new_empty(SCRATCH if columns.device.type == "cpu" else 2**26)
    size = max(1, min(QUERIES, STRIP // len(columns)))
    for begin in range(0, len(layout.rows), size):
        part = layout.part(slice(begin, begin + size))
        tiles = _Tiles(queries[part.rows], columns, bias, repeated)
        yield _rank_block(part, tiles, scratch, generator)


def _lay_out(
    query_groups: NDArray[np.int64], gallery_groups: NDArray[np.int64] | None, device: torch.device
) -> _Layout:
    within = query_groups if gallery_groups is None else gallery_groups
    n_groups = 1 + int(max(query_groups.max(), within.max()))
    sizes = np.bincount(within, minlength=n_groups)
    asked = np.bincount(query_groups, minlength=n_groups) > 0
    # Groups of one size together, so that a block's positives fill a rectangle; those that no
    # query asks for last, so that they do not lie between.
    place_of = np.empty(n_groups, dtype=np.int64)
    place_of[np.lexsort((sizes, ~asked))] = np.arange(n_groups)
    columns = np.argsort(place_of[within], kind="stable")
    ends = np.cumsum(np.bincount(place_of[within], minlength=n_groups))
    itself = gallery_groups is None
    rows = columns if itself else np.argsort(place_of[query_groups], kind="stable")
    group = query_groups[rows]
    start = ends[place_of[group]] - sizes[group]
    has = sizes[group] > int(itself)
    own = np.arange(len(rows)) - start

    def tensor(values: NDArray[np.int64]) -> Int[Tensor, " _"]:
        return torch.from_numpy(values).to(device)

    return _Layout(
        rows=tensor(rows[has]),
        columns=tensor(columns),
        start=tensor(start[has]),
        count=tensor(sizes[group][has]),
        own=tensor(own[has]) if itself else None,
    )


class _Tiles:
    """The scores of a block of queries, a tile at a time."""

    def __init__(
        self,
        queries: Float[Tensor, "b d"],
        columns: Float[Tensor, "m d"],
        bias: Float[Tensor, " m"] | None,
        repeated: tuple[Int[Tensor, " r"], Int[Tensor, " r"]],
    ) -> None:
        self.queries, self.columns, self.bias, self.repeated = queries, columns, bias, repeated
        self.room = columns.new_empty(len(queries) * min(TILE, len(columns)))

    def strip(self, low: int, high: int) -> tuple[int, int, Float[Tensor, "b w"]]:
        """The scores of the columns from `low` to `high`, and the range that they came to be.

        At least a tile's width. Of all columns if rows of the gallery are repeated: the product
        may round equal columns unequally, so that a repeated column is copied from its first.
        """
        if not len(self.repeated[0]):
            high = max(high, min(len(self.columns), low + TILE))
            low = max(0, min(low, high - TILE))
            return low, high, self.scores(low, high)
        scores = self.scores(0, len(self.columns))
        scores[:, self.repeated[0]] = scores[:, self.repeated[1]]
        return 0, len(self.columns), scores

    def scores(
        self, low: int, high: int, out: Float[Tensor, "b w"] | None = None
    ) -> Float[Tensor, "b w"]:
        columns = self.columns[low:high].T
        if self.bias is None:
            return torch.mm(self.queries, columns, out=out)
        return torch.addmm(self.bias[low:high], self.queries, columns, out=out)

    def others(self, low: int, high: int) -> Iterator[Float[Tensor, "b w"]]:
        """The tiles of all columns but those from `low` to `high`, each where the last was."""
        for begin, end in ((0, low), (high, len(self.columns))):
            n_tiles = -(-(end - begin) // TILE)
            for i in range(n_tiles):  # of equal widths, since narrow ones are slow
                left, right = ((end - begin) * at // n_tiles for at in (i, i + 1))
                out = self.room[: len(self.queries) * (right - left)].view(-1, right - left)
                yield self.scores(begin + left, begin + right, out)


def _rank_block(
    layout: _Layout, tiles: _Tiles, scratch: Float[Tensor, " s"], generator: torch.Generator
) -> RankBlock:
    # One score is read for the positive and for the comparison: the same product made twice
    # may round differently and put an image before itself.
    low, high, strip = tiles.strip(
        int(layout.start.min()), int((layout.start + layout.count).max())
    )
    counts = layout.count
    slots = torch.arange(int(counts.max()), device=strip.device).expand(len(counts), -1)
    if layout.own is not None:
        strip.scatter_(1, (layout.start + layout.own - low)[:, None], -torch.inf)
        counts = counts - 1
        slots = slots[:, 1:] - (slots[:, 1:] <= layout.own[:, None]).long()
    valid = torch.arange(slots.shape[1], device=strip.device) < counts[:, None]
    places = torch.where(valid, layout.start[:, None] + slots - low, 0)
    positives = strip.gather(1, places).masked_fill_(~valid, -torch.inf)
    positives = positives.sort(1, descending=True).values
    parts = itertools.chain(torch.split(strip, TILE, 1), tiles.others(low, high))
    below = torch.nextafter(positives, torch.full_like(positives, -torch.inf))
    if _ties_matter(positives, valid) or len(tiles.repeated[0]):
        above, reached = _counts(parts, torch.stack((positives, below)), scratch)
        return RankBlock(
            layout.rows, counts, place(above, reached - above, positives, valid, generator)
        )
    # Two images at one distance, by accident of rounding, are ordered by a coin: it moves the
    # limit to let the other image in or not, and saves counting both ways.
    coin = torch.rand(positives.shape, generator=generator, device=strip.device) < 0.5
    (above,) = _counts(parts, torch.where(coin, below, positives)[None], scratch)
    return RankBlock(layout.rows, counts, above - coin.long() + 1)


def _ties_matter(positives: Float[Tensor, "b p"], valid: Bool[Tensor, "b p"]) -> bool:
    """Whether positives tie among themselves, or are too few to tell.

    Scores of few levels (binary codes, one-hot vectors) tie among any many pairs.
    """
    pairs = valid[:, 1:].sum(1) * valid.sum(1) // 2
    equal = (positives[:, 1:] == positives[:, :-1]) & valid[:, 1:]
    return bool(pairs.sum() < PAIRS) or bool(equal.any())


def _counts(
    tiles: Iterable[Float[Tensor, "b _"]], limits: Float[Tensor, "c b p"], scratch: Tensor
) -> Int[Tensor, "c b p"]:
    """How many scores of each row are above each of its limits."""
    counts = torch.zeros(limits.shape, dtype=torch.float64, device=limits.device)
    for tile in tiles:
        if limits.shape[2] > FEW:
            ordered = tile.sort(1).values.expand(len(limits), -1, -1).contiguous()
            counts += tile.shape[1] - torch.searchsorted(ordered, limits, right=True)
        else:
            _compare(tile, limits, counts, scratch)
    return counts.long()


def _compare(
    tile: Float[Tensor, "b w"],
    limits: Float[Tensor, "c b p"],
    counts: Float[Tensor, "c b p"],
    scratch: Float[Tensor, " s"],
) -> None:
    """Add to the counts. Comparing into floats and adding is vectorised, into booleans not."""
    width = tile.shape[1]
    rows = max(1, len(scratch) // (len(limits) * limits.shape[2] * width))
    for begin in range(0, len(tile), rows):
        part = slice(begin, begin + rows)
        scores, limit = tile[part, None], limits[:, part, :, None]
        room = scratch[: limit.numel() * width].view(*limit.shape[:3], width)
        counts[:, part] += torch.gt(scores, limit, out=room).sum(3)
