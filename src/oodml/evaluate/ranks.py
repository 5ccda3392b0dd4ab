"""The rank of each positive among the gallery images of its query.

Every retrieval metric is a function of these ranks. Scores of queries and gallery images are
computed one tile at a time. While a tile is in the cache, it is counted against the scores of the
positives; then the next tile overwrites it. There is no n×n matrix, and the gallery is not sorted.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from oodml.evaluate.inputs import find_duplicates
from oodml.evaluate.precision import Comparable, Rows, comparable, difference_distances
from oodml.evaluate.protocol import RetrievalProtocol
from oodml.lazy_torch import Tensor, torch

QUERIES = 512  # queries per block
TILE = 1024  # gallery images per tile
SCRATCH = 2**20  # comparisons in memory at a time: few calls, and the results fit into a cache
STRIP = 2**26  # maximum number of scores in memory at a time
PAIRS = 2**14  # if so many pairs of positives in a block do not tie, ties are accidents of rounding
SYMMETRIC_ABOVE = 4096
"""Queries above which the product of two blocks serves both as queries, which halves the work."""
LARGE = 2**17  # images above which a block's ties with its own classes show if ties are accidents
POSITIVES = 2**25  # scores of positives in memory at a time
SORT_ABOVE = 256  # positives per query above which sorting a tile is cheaper than comparing
NOT_RETRIEVED = 2**52  # the rank of a positive that a ranking does not contain
Columns = Float[Tensor, "m d"]
Generator: TypeAlias = "torch.Generator"
Limits = Float[Tensor, "c b p"]
Ranks = Int[Tensor, "b p"]
Repeated = tuple[Int[Tensor, " r"], Int[Tensor, " r"]]
Scores = Float[Tensor, "b _"]
Scratch = Float[Tensor, " s"]


@dataclass(frozen=True)
class RankBlock:
    """The ranks of the positives of some queries."""

    rows: Int[Tensor, " b"]  # the queries
    counts: Int[Tensor, " b"]  # positives of each, at least 1
    ranks: Ranks  # from 1, ascending in each row, undefined beyond the row's count
    grades: Float[Tensor, "b p"] | None = None  # relevance; None if all are equally relevant
    sizes: Int[Tensor, " b"] | None = None  # the images that are ranked for each, if counted

    @property
    def valid(self) -> Bool[Tensor, "b p"]:
        """Which entries of `ranks` are defined."""
        return torch.arange(self.ranks.shape[1], device=self.ranks.device) < self.counts[:, None]


@dataclass(frozen=True)
class _Layout:
    """Queries and gallery in an order in which the positives of a query are adjacent."""

    rows: Int[Tensor, " q"]  # the queries that have a positive
    columns: Int[Tensor, " g"]  # a permutation of the gallery
    start: Int[Tensor, " q"]  # the first column of the query's group
    count: Int[Tensor, " q"]  # the size of the group
    own: Int[Tensor, "q s"]  # positions of the query's own images in its group, -1 beyond them

    def block(self, rows: slice) -> "_Layout":
        """The layout of some of the queries."""
        start, count, own = (values[rows] for values in (self.start, self.count, self.own))
        return _Layout(self.rows[rows], self.columns, start, count, own)


class Counts(NamedTuple):
    """A block of queries, and how many gallery images score above each of their limits."""

    queries: Float[Tensor, "b d"]  # in the form that is compared
    limits: Limits
    above: Limits  # float64


@dataclass(frozen=True)
class MoreColumns:
    """Further gallery images, which are no positives."""

    count: Callable[[Comparable, list[Counts]], None]  # counts them for some blocks of queries
    size: int
    mean: Float[Tensor, " d"] | None = None  # float64, of the whole gallery; for Euclidean distance


def positive_ranks(
    protocol: RetrievalProtocol,
    *,
    distance: str,
    generator: Generator,
    more: MoreColumns | None = None,
) -> Iterator[RankBlock]:
    """Rank the positives of every query that has one, without the query's own images, in blocks.

    `distance` is one of `oodml.evaluate.inputs.DISTANCES`; further gallery images (`more`) are for
    cosine and Euclidean distance.
    """
    mean = None if more is None else more.mean
    vectors = comparable(protocol.queries, protocol.gallery, distance, mean)
    layout = _layout(protocol)
    columns = (vectors.queries if vectors.gallery is None else vectors.gallery)[layout.columns]
    repeated = find_duplicates(columns)
    scratch = scratch_memory(columns)
    is_square = vectors.gallery is None and more is None
    counters: Iterable[RankCounter] = ()
    if is_square and not vectors.by_differences and not len(repeated[0]):
        counters = _symmetric_counters(layout, columns, vectors.euclidean, scratch, generator)
    size = len(columns) + (0 if more is None else more.size)
    counters = counters or _counters(layout, vectors, columns, repeated, scratch, generator, size)
    if more is not None:
        counters = list(counters)
        blocks = [Counts(vectors.queries[one.rows], one.limits, one.above) for one in counters]
        more.count(vectors, blocks)
    for counter in counters:
        yield counter.ranks()


def scratch_memory(like: Tensor) -> Scratch:
    """Memory for comparisons on the device of a tensor, in its type."""
    return like.new_empty(SCRATCH if like.device.type == "cpu" else 2**26)


def count_columns(
    vectors: Comparable, columns: Columns, blocks: Iterable[Counts], scratch: Scratch
) -> None:
    """Count prepared gallery images for blocks of queries."""
    nothing = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    for block in blocks:
        for tile in Tiles(vectors, block.queries, columns, nothing).others(0, 0):
            _count(tile, block.limits, block.above, scratch)


def _counters(
    layout: "_Layout",
    vectors: Comparable,
    columns: Columns,
    repeated: Repeated,
    scratch: Scratch,
    generator: Generator,
    n_images: int,
) -> Iterator["RankCounter"]:
    """Count all columns for each block of queries."""
    size, exact_ties = max(1, min(QUERIES, STRIP // len(columns))), len(repeated[0]) > 0
    for first in range(0, len(layout.rows), size):
        block = layout.block(slice(first, first + size))
        tiles = Tiles(vectors, vectors.queries[block.rows], columns, repeated)
        begin, end = int(block.start.min()), int((block.start + block.count).max())
        low, high, strip = tiles.strip(begin, end)
        begin, end = begin - low, end - low
        counter = _layout_counter(block, strip, low, scratch, generator, exact_ties)
        for tile in torch.split(strip[:, begin:end], TILE, 1):
            counter.add(tile)
        if n_images >= LARGE and not exact_ties:
            counter.settle_ties((end - begin) * int(block.count.sum()))
        rest = [part for part in (strip[:, :begin], strip[:, end:]) if part.shape[1]]
        beside = (tile for part in rest for tile in torch.split(part, TILE, 1))
        for tile in itertools.chain(beside, tiles.others(low, high)):
            counter.add(tile)
        yield counter


def _layout(protocol: RetrievalProtocol) -> _Layout:
    query_groups, gallery_groups = protocol.groups, protocol.gallery_groups
    searched = query_groups if gallery_groups is None else gallery_groups
    n_groups = 1 + int(max(query_groups.max(), searched.max()))
    sizes = np.bincount(searched, minlength=n_groups)
    is_queried = np.bincount(query_groups, minlength=n_groups) > 0
    # Groups of equal size are adjacent, so that the positives of a block fill a rectangle.
    # Groups without a query come last, so that they do not separate the others.
    position = np.empty(n_groups, dtype=np.int64)
    position[np.lexsort((sizes, ~is_queried))] = np.arange(n_groups)
    columns = np.argsort(position[searched], kind="stable")
    ends = np.cumsum(np.bincount(position[searched], minlength=n_groups))
    rows = columns if gallery_groups is None else np.argsort(position[query_groups], kind="stable")
    group = query_groups[rows]
    start = ends[position[group]] - sizes[group]
    own = _own_positions(protocol, columns)[rows]
    own = np.where(own >= 0, own - start[:, None], -1)
    used = sizes[group] > (own >= 0).sum(1)
    parts = rows[used], columns, start[used], sizes[group][used], own[used]
    return _Layout(*(torch.from_numpy(part).to(protocol.queries.device) for part in parts))


def _own_positions(protocol: RetrievalProtocol, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n s] the columns of each query's own images in the gallery, -1 beyond their number."""
    inverse = np.empty(len(columns), dtype=np.int64)
    inverse[columns] = np.arange(len(columns))
    if protocol.gallery_groups is None:
        return inverse[:, None]
    if protocol.self_matches is None:
        return np.zeros((len(protocol.groups), 0), dtype=np.int64)
    queries, images = protocol.self_matches
    order = np.argsort(queries, kind="stable")
    queries, images = queries[order], images[order]
    slot = np.arange(len(queries)) - np.searchsorted(queries, queries)
    width = int(slot.max()) + 1 if len(slot) else 0
    own = np.full((len(protocol.groups), width), -1, dtype=np.int64)
    own[queries, slot] = inverse[images]
    return own


class Tiles:
    """The scores of a block of queries, computed one tile at a time."""

    def __init__(
        self, vectors: Comparable, queries: Rows, columns: Columns, repeated: Repeated
    ) -> None:
        self.queries, self.columns, self.repeated = queries, columns, repeated
        self.by_differences = vectors.by_differences
        self.bias = -columns.square().sum(1) / 2 if vectors.euclidean else None
        self.buffer = columns.new_empty(len(queries) * min(TILE, len(columns)))

    def strip(self, low: int, high: int) -> tuple[int, int, Scores]:
        """The scores of the columns from `low` to `high`, and the range that was computed.

        The range is at least one tile wide. It covers all columns if rows of the gallery are
        repeated: the product may round equal columns differently, so the scores of a repeated
        column are copied from its first occurrence.
        """
        if not len(self.repeated[0]):
            high = max(high, min(len(self.columns), low + TILE))
            low = max(0, min(low, high - TILE))
            return low, high, self.scores(low, high)
        scores = self.scores(0, len(self.columns))
        scores[:, self.repeated[0]] = scores[:, self.repeated[1]]
        return 0, len(self.columns), scores

    def scores(self, low: int, high: int, out: Scores | None = None) -> Scores:
        columns = self.columns[low:high]
        if self.by_differences:
            return difference_distances(self.queries, columns).neg_()
        if self.bias is None:
            return torch.mm(self.queries, columns.T, out=out)
        return torch.addmm(self.bias[low:high], self.queries, columns.T, out=out)

    def others(self, low: int, high: int) -> Iterator[Scores]:
        """The tiles of all columns outside `low` to `high`; each overwrites the previous one."""
        for begin, end in ((0, low), (high, len(self.columns))):
            n_tiles = -(-(end - begin) // TILE)
            for i in range(n_tiles):  # equal widths, because narrow tiles are slow
                left, right = ((end - begin) * step // n_tiles for step in (i, i + 1))
                out = self.buffer[: len(self.queries) * (right - left)].view(-1, right - left)
                yield self.scores(begin + left, begin + right, out)


class RankCounter:
    """Counts the scores above those of the positives of a block of queries, tile by tile.

    `positives` are descending, with -inf beyond the `counts` of each query; `exact_ties` is whether
    images at equal distance are known to exist.
    """

    def __init__(
        self,
        rows: Int[Tensor, " b"],
        positives: Scores,
        counts: Int[Tensor, " b"],
        scratch: Scratch,
        generator: Generator,
        exact_ties: bool = False,
    ) -> None:
        self.rows, self.n_positives = rows, counts
        self.scratch, self.generator, self.positives = scratch, generator, positives
        self.valid = torch.arange(positives.shape[1], device=positives.device) < counts[:, None]
        below = torch.nextafter(positives, torch.full_like(positives, -torch.inf))
        self.coin: Bool[Tensor, "b p"] | None = None
        if exact_ties or _ties_matter(positives, self.valid):
            self.limits = torch.stack((positives, below))
        else:
            # If two images tie by accident of rounding, a coin decides their order: it moves the
            # limit to include or exclude the other image, which saves counting with both limits.
            self.coin = torch.rand(positives.shape, generator=generator, device=rows.device) < 0.5
            self.limits = torch.where(self.coin, below, positives)[None]
        self.above = torch.zeros(self.limits.shape, dtype=torch.float64, device=rows.device)

    def add(self, tile: Scores) -> None:
        """Count the scores of further gallery images."""
        _count(tile, self.limits, self.above, self.scratch)

    def settle_ties(self, pairs: int) -> None:
        """Let coins decide further ties, if no positive tied in so many pairs with other images."""
        ties = (self.above[-1] - self.above[0])[self.valid] > 1
        if self.coin is None and pairs >= PAIRS and not ties.any():
            shape, device = self.positives.shape, self.rows.device
            self.coin = torch.rand(shape, generator=self.generator, device=device) < 0.5
            self.limits = torch.where(self.coin, self.limits[1], self.limits[0])[None]
            self.above = torch.where(self.coin, self.above[1], self.above[0])[None]

    def ranks(self) -> RankBlock:
        """The ranks of the positives among all images that were counted."""
        above = self.above.long()
        if self.coin is not None:
            return RankBlock(self.rows, self.n_positives, above[0] - self.coin.long() + 1)
        level = above[1] - above[0]
        ranks = ranks_within_ties(above[0], level, self.positives, self.valid, self.generator)
        return RankBlock(self.rows, self.n_positives, ranks)


def _layout_counter(
    layout: _Layout,
    strip: Scores,
    low: int,
    scratch: Scratch,
    generator: Generator,
    exact_ties: bool = False,
) -> RankCounter:
    """The counter of queries whose positives are in `strip`, whose first column is `low`.

    A positive and its comparison use the same computed score: computing the product twice
    may round differently and rank an image above itself.
    """
    for own in layout.own.T:  # move the query's own images behind all others
        exists = own >= 0
        columns = torch.where(exists, layout.start + own - low, 0)[:, None]
        values = strip.gather(1, columns).masked_fill_(exists[:, None], -torch.inf)
        strip.scatter_(1, columns, values)
    slots = torch.arange(int(layout.count.max()), device=strip.device).expand(len(strip), -1)
    in_group = slots < layout.count[:, None]
    indices = torch.where(in_group, layout.start[:, None] + slots - low, 0)
    positives = strip.gather(1, indices).masked_fill_(~in_group, -torch.inf)
    counts = layout.count - (layout.own >= 0).sum(1)
    positives = positives.sort(1, descending=True).values[:, : int(counts.max())]
    return RankCounter(layout.rows, positives, counts, scratch, generator, exact_ties)


def _symmetric_blocks(layout: _Layout) -> list[tuple[int, int]]:
    """Ranges of queries whose positives are the columns of the same range, if that is worth it."""
    is_small = len(layout.rows) < SYMMETRIC_ABOVE or int(layout.count.max()) > QUERIES
    if is_small or int(layout.count.sum()) > POSITIVES:
        return []
    offset = len(layout.columns) - len(layout.rows)
    starts = torch.unique(layout.start).cpu().numpy() - offset
    ends = np.append(starts[1:], len(layout.rows))
    blocks, begin = [], 0
    for end, following in itertools.pairwise([*ends.tolist(), len(layout.rows) + QUERIES]):
        if following - begin > QUERIES:
            blocks.append((begin, end))
            begin = end
    return blocks


def _symmetric_counters(
    layout: _Layout, columns: Columns, euclidean: bool, scratch: Scratch, generator: Generator
) -> list[RankCounter]:
    """Count all images among each other; the product of two blocks serves both as queries."""
    blocks = _symmetric_blocks(layout)
    offset = len(columns) - len(layout.rows)  # images without a positive come first
    bias = columns.square().sum(1) / -2 if euclidean else columns.new_zeros(0)
    ranges = [slice(begin + offset, end + offset) for begin, end in blocks]

    def add_bias(products: Scores, part: slice) -> Scores:
        return (products + bias[part] if euclidean else products).contiguous()

    counters = []
    for (begin, end), own in zip(blocks, ranges, strict=True):
        scores = add_bias(torch.mm(columns[own], columns[own].T), own)
        block = layout.block(slice(begin, end))
        counters.append(_layout_counter(block, scores, own.start, scratch, generator))
        counters[-1].add(scores)
        for part in (slice(low, min(offset, low + TILE)) for low in range(0, offset, TILE)):
            counters[-1].add(add_bias(torch.mm(columns[own], columns[part].T), part))
    pairs = zip(counters, ranges, strict=True)
    for (one, first), (other, second) in itertools.combinations(pairs, 2):
        products = torch.mm(columns[first], columns[second].T)
        one.add(add_bias(products, second))
        other.add(add_bias(products.T, first))
    return counters


def _ties_matter(positives: Scores, valid: Bool[Tensor, "b p"]) -> bool:
    """Whether positives tie, as those of binary codes do, or too few pairs exist to find out."""
    pairs = valid[:, 1:].sum(1) * valid.sum(1) // 2
    equal = (positives[:, 1:] == positives[:, :-1]) & valid[:, 1:]
    return bool(pairs.sum() < PAIRS) or bool(equal.any())


def _count(tile: Scores, limits: Limits, counts: Limits, scratch: Scratch) -> None:
    """Add to the counts; comparing into floats is vectorized, comparing into Booleans is not."""
    width = tile.shape[1]
    if limits.shape[2] > SORT_ABOVE:
        ordered = tile.sort(1).values.expand(len(limits), -1, -1).contiguous()
        counts += width - torch.searchsorted(ordered, limits, right=True)
        return
    rows = max(1, len(scratch) // (len(limits) * limits.shape[2] * width))
    for begin in range(0, len(tile), rows):
        part = slice(begin, begin + rows)
        scores, limit = tile[part, None], limits[:, part, :, None]
        buffer = scratch[: limit.numel() * width].view(*limit.shape[:3], width)
        counts[:, part] += torch.gt(scores, limit, out=buffer).sum(3)


def ranks_within_ties(
    above: Ranks, level: Ranks, scores: Scores, valid: Bool[Tensor, "b p"], generator: Generator
) -> Ranks:
    """Draw the ranks from 1, in ascending order, of positives that tie with other images.

    `above` counts the gallery images strictly closer than the positive, `level` those at exactly
    its distance, itself included; the `scores` of the positives descend, `valid` ones first. The
    order of tied images is independent for each row.
    """
    ranks = above + 1
    tied = valid & (level > 1)
    if not tied.any():
        return ranks
    starts = tied.clone()
    starts[:, 1:] &= scores[:, 1:] != scores[:, :-1]
    group = starts.flatten().cumsum(0)[tied.flatten()] - 1
    sizes = torch.bincount(group)
    first = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    within = torch.arange(len(group), device=group.device) - first
    ranks[tied] += random_subsets(level[starts], sizes, generator)[group, within]
    return ranks


def random_subsets(
    totals: Int[Tensor, " g"], sizes: Int[Tensor, " g"], generator: Generator
) -> Int[Tensor, "g s"]:
    """Draw `sizes` distinct numbers from 0 … totals-1 for each row, uniformly over all subsets.

    The numbers ascend; entries beyond a row's size are undefined.
    """
    # At most half of the numbers are drawn, so that collisions are rare; for larger subsets the
    # numbers to exclude are drawn.
    is_complement = 2 * sizes > totals
    n_drawn = torch.where(is_complement, totals - sizes, sizes)
    slots = torch.arange(int(sizes.max()), device=totals.device).expand(len(totals), -1)
    unused = slots >= n_drawn[:, None]
    limits = totals[:, None].expand_as(slots)
    numbers = torch.where(unused, limits + slots, _random_below(limits, generator)).sort(1).values
    while True:
        collided = torch.zeros_like(unused)
        collided[:, 1:] = numbers[:, 1:] == numbers[:, :-1]
        if not collided.any():
            break
        numbers[collided] = _random_below(limits[collided], generator)
        numbers = numbers.sort(1).values
    # The k-th number that is not in c₀<c₁<… is k plus the number of i with cᵢ-i ≤ k.
    n_excluded = torch.searchsorted(numbers - slots, slots.contiguous(), right=True)
    included = slots + torch.minimum(n_excluded, n_drawn[:, None])
    return torch.where(is_complement[:, None], included, numbers)


def _random_below(limits: Tensor, generator: Generator) -> Tensor:
    shape, device = limits.shape, limits.device
    uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    return (uniform * limits).long()
