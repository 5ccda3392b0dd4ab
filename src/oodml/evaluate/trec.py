"""Rankings and judgments in the text formats of TREC: runs and qrels."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from oodml.arrays import Names
from oodml.errors import error_at
from oodml.evaluate.ranks import NOT_RETRIEVED, RankBlock
from oodml.evaluate.relevance import Judge
from oodml.files import replacing

DEPTH = 1000  # images per query that are written to a run
ROWS = 256
Ids = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Ranking:
    """Retrieved images: [r] the query, the image, and the score of each, larger for nearer."""

    queries: Names
    images: Names
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Qrels:
    """Qrels pairs: [p] the query, the image, and the grade; 0 for no match, below for junk."""

    queries: Names
    images: Names
    grades: NDArray[np.float32]


def read_run(path: Path) -> Ranking:
    """Read lines `query Q0 image rank score tag`; ranks follow from the scores."""
    fields = _read(path, 6)
    return Ranking(fields[0], fields[2], _numbers(path, fields[4]))


def read_qrels(path: Path) -> Qrels:
    """Read lines `query 0 image grade`."""
    fields = _read(path, 4)
    return Qrels(fields[0], fields[2], _numbers(path, fields[3]).astype(np.float32))


def _read(path: Path, width: int) -> list[Names]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise error_at(path, f"cannot be read: {error}") from error
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, 1):
        if row and len(row) != width:
            problem = f"line {number} has {len(row)} fields; expected {width}"
            raise error_at(path, problem, number, (str(width),))
    fields = [np.array(column) for column in zip(*filter(None, rows), strict=True)]
    if not fields:
        raise error_at(path, "the file is empty")
    pairs = pd.MultiIndex.from_arrays([fields[0], fields[2]])
    if pairs.has_duplicates:
        query, image = pairs[pairs.duplicated()][0]
        raise error_at(path, f"image {image!r} is listed twice for query {query!r}", image)
    return fields


def _numbers(path: Path, texts: Names) -> NDArray[np.float64]:
    try:
        numbers: NDArray[np.float64] = texts.astype(np.float64)
    except ValueError as error:
        raise error_at(path, f"{error}") from error
    if not np.isfinite(numbers).all():
        raise error_at(path, "not all numbers are finite")
    return numbers


def run_blocks(run: Ranking, qrels: Qrels) -> tuple[Names, Iterator[RankBlock]]:
    """The ranks of the matches of each query that has judgments, in the order of trec_eval.

    Returns the queries, sorted, and blocks whose rows are positions in them.
    """
    key, grades = ["query", "image"], qrels.grades.astype(np.float64)
    judged = pd.DataFrame({"query": qrels.queries, "image": qrels.images, "grade": grades})
    table = pd.DataFrame({"query": run.queries, "image": run.images, "score": run.scores})
    table = table.merge(judged, how="left", on=key).query("not grade < 0")
    table = table.sort_values(["query", "score", "image"], ascending=[True, False, False])
    table["rank"] = table.groupby("query").cumcount() + 1
    ranked = judged[judged["grade"] > 0].merge(table[[*key, "rank"]], how="left", on=key)
    ranked["rank"] = ranked["rank"].fillna(NOT_RETRIEVED).astype(np.int64)
    names = np.unique(qrels.queries)
    ranked["row"] = np.searchsorted(names, ranked["query"].to_numpy(dtype=names.dtype))
    ranked = ranked.sort_values(["row", "rank"], kind="stable")

    def blocks() -> Iterator[RankBlock]:
        for _, part in ranked.groupby(ranked["row"] // ROWS):
            rows, inverse, counts = np.unique(part["row"], return_inverse=True, return_counts=True)
            slots = part.groupby("row").cumcount().to_numpy()
            ranks = np.ones((len(rows), counts.max()), dtype=np.int64)
            grades = np.zeros(ranks.shape)
            ranks[inverse, slots], grades[inverse, slots] = part["rank"], part["grade"]
            yield RankBlock(*map(torch.from_numpy, (rows, counts, ranks, grades)))

    return names, blocks()


@contextmanager
def _new_file(path: Path, ids: Ids) -> Iterator[TextIO]:
    for names, kind in zip(ids, ("queries", "images"), strict=True):
        check_ids(np.array(names), kind)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def write_run(
    path: Path, ids: Ids, blocks: Iterable[tuple[NDArray[np.int64], Float[Tensor, "b m"]]]
) -> None:
    """Write the nearest `DEPTH` images of each query, from rows and their scores (-inf: unranked).

    `ids` are those of the queries and of the gallery.
    """
    with _new_file(path, ids) as file:
        for rows, scores in blocks:
            nearest = scores.topk(min(DEPTH, scores.shape[1]), dim=1)
            for row, values, columns in zip(rows, *map(Tensor.tolist, nearest), strict=True):
                for rank, (value, column) in enumerate(zip(values, columns, strict=True), 1):
                    if value > -np.inf:
                        file.write(f"{ids[0][row]} Q0 {ids[1][column]} {rank} {value!r} oodml\n")


def write_qrels(path: Path, ids: Ids, judge: Judge) -> None:
    """Write the matches and the junk of each query; other images are no matches."""
    with _new_file(path, ids) as file:
        for row, name in enumerate(ids[0]):
            (grades,) = judge(np.array([row]))
            for column in np.flatnonzero(grades):
                file.write(f"{name} 0 {ids[1][column]} {grades[column]:g}\n")


def check_ids(ids: Names, kind: str) -> None:
    """Refuse ids that a file of TREC cannot contain: repeated ones, and those with spaces."""
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        name = str(names[counts > 1][0])
        raise error_at(kind, f"id {name!r} appears twice; TREC files need unique ids", name)
    spaced = [name for name in names.tolist() if len(name.split()) != 1]
    if spaced:
        raise error_at(kind, f"id {spaced[0]!r} contains a space", spaced[0])
