"""Which gallery images are ranked for a query, and how relevant each is: cameras, junk, grades.

A judgment is a number for a query and a gallery image: the relevance of a match is above 0, other
images have 0, and images below 0 (junk) are not ranked for the query.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from oodml.arrays import Names
from oodml.errors import error_at, unknown
from oodml.evaluate.inputs import encode_labels, find_duplicates
from oodml.evaluate.precision import comparable
from oodml.evaluate.ranks import QUERIES, SCRATCH, TILE, RankBlock, RankCounter, Tiles
from oodml.vectors import VectorSet

JUNK = -1.0
SCORES = 2**24  # scores of a block of queries in memory at a time
LABEL_SEPARATOR = "|"
Grades = NDArray[np.float32]
Judge = Callable[[NDArray[np.int64]], Grades]
"""From rows of queries [b] to judgments [b m]."""
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Rules:
    """How judgments follow from columns of the vectors, and what a benchmark's paper prints."""

    exclude: tuple[str, ...] = ()
    """Columns of `oodml.vector_columns.ATTRIBUTES`; images of the query's class with the same value
    are not ranked for it. A missing value equals no other."""
    junk_classes: tuple[str, ...] = ()  # of gallery images that are never ranked
    distractor_classes: tuple[str, ...] = ()  # of gallery images that are ranked, but no match
    shared_label: bool = False
    """Whether classes such as "cat|dog" are several labels; relevance counts the shared ones."""
    by_track: bool = False
    """Whether tracks are ranked instead of images, if the gallery has a column "track": each by its
    image nearest to the query, without images that are not ranked."""
    metrics: tuple[str, ...] = ()  # what the paper prints; if empty, all metrics are returned
    needs_lists: bool = True  # whether queries and gallery are separate
    source: str = ""  # the paper and what to know about its numbers


_CMC = ("map", "recall@1", "recall@5", "recall@10")
PROTOCOLS: Mapping[str, Rules] = {
    "market1501": Rules(
        ("camera",),
        junk_classes=("-1",),
        distractor_classes=("0", "0000"),
        metrics=(*_CMC, "recall@20", "minp", "map_trapezoid"),
        source="Market-1501 (Zheng et al., ICCV 2015): class -1 is junk, class 0 are distractors, "
        "and images of the same person and camera are ignored. recall@k is the CMC at rank k; the "
        "paper's code computes map_trapezoid, later papers map.",
    ),
    "veri": Rules(
        ("camera",),
        by_track=True,
        metrics=(*_CMC[:3], "minp"),
        source="VeRi-776 (Liu et al., ECCV 2016): images of the same vehicle and camera are "
        "ignored. With a column track (a vehicle in one camera), tracks are ranked by their "
        "nearest image as in the paper (see also arXiv 1910.09458); else images, as in later ones.",
    ),
    "msmt17": Rules(
        ("camera",),
        metrics=(*_CMC, "recall@20"),
        source="MSMT17 (Wei et al., CVPR 2018): images of the same person and camera are ignored.",
    ),
    "sop": Rules(
        metrics=("recall@1", "recall@10", "recall@100", "recall@1000"),
        needs_lists=False,
        source="Stanford Online Products (Song et al., CVPR 2016): every test image searches the "
        "others.",
    ),
    "inshop": Rules(
        metrics=tuple(f"recall@{k}" for k in (1, 10, 20, 30, 40, 50)),
        source="In-shop Clothes Retrieval (Liu et al., CVPR 2016): lists of queries and gallery.",
    ),
    "inaturalist": Rules(
        metrics=("recall@1", "recall@4", "recall@16", "recall@32"),
        needs_lists=False,
        source="iNaturalist 2018 (Brown et al., Smooth-AP, ECCV 2020): every test image searches "
        "the others.",
    ),
    "gldv2": Rules(
        shared_label=True,
        metrics=("map@100",),
        source="Google Landmarks v2 retrieval (Weyand et al., CVPR 2020): an index image matches "
        "if it shares a landmark with the query; mAP@100 divides by min(matches, 100).",
    ),
    "wildlife": Rules(
        metrics=("recall@1", "recall@5"),
        source="WildlifeDatasets (Čermák et al., WACV 2024): recall@1 is the accuracy of the "
        "nearest neighbor. Exclude images of one encounter with `--exclude same:time`.",
    ),
}


def judge_by_class(queries: VectorSet, gallery: VectorSet, rules: Rules, own: Pairs) -> Judge:
    """Judge by the classes and the other columns of queries and gallery.

    A column "relevance" of the gallery grades its matches: 0 for distractors, -1 for junk. Images
    with a true value (or -1) in a column "junk" are junk. `own` are the queries [p] and gallery
    rows [p] that are the same image.
    """
    shared = _shared_labels if rules.shared_label else _same_class
    n_shared = shared(queries.classes, gallery.classes)
    weights = _gallery_relevance(gallery)
    weights[np.isin(gallery.classes, rules.distractor_classes)] = 0
    junk = np.isin(gallery.classes, rules.junk_classes) | (weights < 0)
    columns = []
    for name in rules.exclude:
        for vectors in (queries, gallery):
            if name not in vectors.attributes:
                raise unknown("column", name, vectors.attributes, "exclude")
        values = queries.attributes[name]
        codes, other_codes = encode_labels(values, gallery.attributes[name])[1]
        columns.append((np.where(values == "", -1, codes), other_codes))

    def judge(rows: NDArray[np.int64]) -> Grades:
        grades = (counts := n_shared(rows)) * weights
        for codes, others in columns:
            is_same = (codes[rows, None] == others) & (codes[rows, None] >= 0)
            grades[(counts > 0) & is_same] = JUNK
        grades[:, junk] = JUNK
        return _exclude(grades, rows, own)

    return judge


def judge_by_pairs(judged: Pairs, grades: Grades, shape: tuple[int, int], own: Pairs) -> Judge:
    """Judge by a list of pairs with their grades; other pairs have 0, negative grades are junk."""
    table = csr_array((grades, judged), shape=shape)

    def judge(rows: NDArray[np.int64]) -> Grades:
        return _exclude(table[rows].toarray().astype(np.float32), rows, own)

    return judge


def _gallery_relevance(gallery: VectorSet) -> Grades:
    """[m] the relevance of gallery images where they match: 1 by default, -1 for junk."""
    weights = np.ones(len(gallery), dtype=np.float32)
    for row, text in enumerate(gallery.attributes.get("relevance", np.empty(0)).tolist()):
        try:
            weights[row] = float(text or 1)
        except ValueError as error:
            problem = f"row {row} of 'relevance' has {text!r}; expected a number"
            raise error_at("relevance", problem, text) from error
    if "junk" in gallery.attributes:
        weights[~np.isin(np.char.lower(gallery.attributes["junk"]), ("", "0", "false"))] = JUNK
    return weights


def _exclude(grades: Grades, rows: NDArray[np.int64], own: Pairs) -> Grades:
    positions = np.full(rows.max() + 1, -1)
    positions[rows] = np.arange(len(rows))
    inside = np.isin(own[0], rows)
    grades[positions[own[0][inside]], own[1][inside]] = JUNK
    return grades


def _same_class(classes: Names, others: Names) -> Judge:
    codes, other_codes = encode_labels(classes, others)[1]
    return lambda rows: (codes[rows, None] == other_codes).astype(np.float32)


def _shared_labels(classes: Names, others: Names) -> Judge:
    labels = {name: set(name.split(LABEL_SEPARATOR)) for name in {*classes, *others}}
    columns = {label: i for i, label in enumerate(sorted(set().union(*labels.values())))}

    def incidence(names: Names) -> Any:
        pairs = [(row, columns[one]) for row, name in enumerate(names) for one in labels[name]]
        indices = tuple(np.array(pairs).T)
        return csr_array((np.ones(len(pairs), np.float32), indices), (len(names), len(columns)))

    queries, gallery = incidence(classes), incidence(others).T.tocsc()
    return lambda rows: (queries[rows] @ gallery).toarray()


def judged_scores(
    queries: Float[Tensor, "n d"], gallery: Float[Tensor, "m d"], judge: Judge, distance: str
) -> Iterator[tuple[NDArray[np.int64], Float[Tensor, "b m"], Float[Tensor, "b m"], bool]]:
    """The scores of some queries at a time, larger for nearer images.

    Yields the rows of the queries, their scores (-inf where an image is not ranked), the judgments,
    and whether the gallery contains equal vectors.
    """
    vectors = comparable(queries, gallery, distance)
    assert vectors.gallery is not None
    repeated = find_duplicates(vectors.gallery)
    size = max(1, min(QUERIES, SCORES // len(gallery)))
    for begin in range(0, len(queries), size):
        rows = np.arange(begin, min(begin + size, len(queries)))
        asked = vectors.queries[torch.from_numpy(rows)]
        tiles = Tiles(vectors, asked, vectors.gallery, repeated)
        scores = tiles.strip(0, len(vectors.gallery))[2]
        grades = torch.from_numpy(judge(rows)).to(scores.device)
        yield rows, scores.masked_fill(grades < 0, -torch.inf), grades, len(repeated[0]) > 0


def _nearest_in_tracks(
    tracks: NDArray[np.int64], scores: Float[Tensor, "b m"], grades: Float[Tensor, "b m"]
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """The best score and the largest grade of each track; junk only if all of its images are."""
    index = torch.from_numpy(tracks).to(scores.device).expand_as(scores)
    shape = len(scores), int(tracks.max()) + 1
    best = scores.new_full(shape, -torch.inf).scatter_reduce(1, index, scores, "amax")
    return best, grades.new_full(shape, JUNK).scatter_reduce(1, index, grades, "amax")


def judged_ranks(
    queries: Float[Tensor, "n d"],
    gallery: Float[Tensor, "m d"],
    judge: Judge,
    *,
    distance: str,
    generator: torch.Generator,
    tracks: NDArray[np.int64] | None = None,
) -> Iterator[RankBlock]:
    """The ranks and grades of the matches of every query that has one.

    `queries` and `gallery` are vectors as given; images at equal distance are in random order.
    With `tracks`, the track of each gallery image [m] from 0, tracks are ranked instead of images.
    """
    scratch = gallery.new_empty(SCRATCH)
    for rows, scores, grades, exact_ties in judged_scores(queries, gallery, judge, distance):
        if tracks is not None:
            scores, grades = _nearest_in_tracks(tracks, scores, grades)
        scored = (grades > 0).any(1)
        if not scored.any():
            continue
        scores, grades = scores[scored], grades[scored]
        own, own_grades = _sorted_matches(scores, grades, generator)
        ranked = torch.from_numpy(rows).to(scores.device)[scored]
        counts = (grades > 0).sum(1)
        counter = RankCounter(ranked, own, counts, scratch.to(scores), generator, exact_ties)
        for tile in torch.split(scores, TILE, 1):
            counter.add(tile)
        yield replace(counter.ranks(), grades=own_grades, sizes=(grades >= 0).sum(1))


def _sorted_matches(
    scores: Float[Tensor, "b m"], grades: Float[Tensor, "b m"], generator: torch.Generator
) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b p"]]:
    """The scores of each query's matches, descending, and their grades; ties in random order."""
    is_match = grades > 0
    width = int(is_match.sum(1).max())
    own, columns = scores.masked_fill(~is_match, -torch.inf).topk(width, dim=1)
    order = torch.rand(own.shape, generator=generator, device=own.device).argsort(1)
    own, columns = own.gather(1, order), columns.gather(1, order)
    own, order = own.sort(stable=True, dim=1, descending=True)
    return own, grades.gather(1, columns.gather(1, order))
