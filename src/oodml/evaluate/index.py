"""A search index for production, and its recall compared with exact search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.inputs import as_vectors, check_seed, refuse_rows
from oodml.evaluate.precision import unit_rows
from oodml.files import replacing
from oodml.vector_files import READABLE
from oodml.vectors import VectorSet

KINDS = ("flat", "ivf", "hnsw")


@dataclass(frozen=True)
class IndexReport:
    """How well an index approximates exact search.

    Attributes:
        kind, vectors, dimensions: the index.
        queries: the number of queries that were tried.
        k: the number of neighbors per query.
        neighbor_recall: the share of the k exact nearest neighbors that the index returns,
            averaged over the queries.
        recall, exact_recall: Recall@1 with the index and by exact search.
    """

    kind: str
    vectors: int
    dimensions: int
    queries: int
    k: int
    neighbor_recall: float
    recall: float
    exact_recall: float


def write_index(
    vectors: VectorSet,
    path: str | Path,
    *,
    kind: str = "flat",
    distance: str = "cosine",
    effort: int | None = None,
    seed: int = 0,
    k: int = 10,
    queries: int = 1000,
) -> IndexReport:
    """Write a faiss index, and `NAME.ids.csv` with the id and class of each row beside it.

    Args:
        kind: "flat" (exact), "ivf" (4√n inverted lists), or "hnsw" (a graph with 32 neighbors).
        distance: "cosine" stores unit vectors and searches by inner product, so queries must have
            length 1, too; "euclidean" stores the vectors as given.
        effort: lists searched ("ivf", default 16) or candidates per query ("hnsw", default 64).
        seed: of the inverted lists and of the tried queries.
        k: the number of neighbors to compare with exact search.
        queries: the number of rows to try as queries, each without itself.

    Returns:
        The recall of the index.
    """
    import faiss

    if kind not in KINDS:
        raise unknown("index", kind, KINDS)
    target = Path(path)
    if target.suffix.lower() in READABLE:
        problem = f"an index is not a {target.suffix} file; choose another suffix, such as .faiss"
        raise error_at(target, problem, target.suffix)
    if len(vectors) < 2:
        message = f"an index needs at least two vectors; given {len(vectors)}"
        raise OodmlError(message, given=len(vectors))
    check_seed(seed, bits=31)
    if effort is not None and kind == "flat":
        raise OodmlError(
            f"effort: {effort}; a flat index always searches everything. Choose --kind ivf or hnsw",
            location="effort",
            given=effort,
            allowed=("ivf", "hnsw"),
        )
    if effort is not None and effort < 1:
        raise error_at("effort", f"{effort}; allowed: whole numbers from 1", effort)
    rows = _index_rows(vectors, distance)
    metric = faiss.METRIC_INNER_PRODUCT if distance == "cosine" else faiss.METRIC_L2
    try:
        exact = _build_index("flat", rows, metric, None, seed)
        index = exact if kind == "flat" else _build_index(kind, rows, metric, effort, seed)
        with replacing(target) as temporary:
            faiss.write_index(index, str(temporary))
    except RuntimeError as error:  # the only type of exception that faiss raises
        raise error_at(target, f"faiss failed: {error}") from error
    with replacing(target.with_suffix(".ids.csv")) as temporary:
        table = pd.DataFrame({"id": vectors.ids, "class": vectors.classes})
        table.to_csv(temporary, index=False)
    tried = np.random.default_rng(seed).permutation(len(rows))[:queries]
    reach = min(k, len(rows) - 1)
    best, near = (_neighbors(one, rows, tried, reach) for one in (exact, index))
    shares = [len(np.intersect1d(a, b)) / reach for a, b in zip(best, near, strict=True)]
    recalls = [_recall_at_1(vectors.labels, tried, neighbors) for neighbors in (near, best)]
    return IndexReport(
        kind, len(rows), rows.shape[1], len(tried), reach, float(np.mean(shares)), *recalls
    )


def _index_rows(vectors: VectorSet, distance: str) -> Float[np.ndarray, "n d"]:
    """The rows as the index stores them, in float32."""
    if distance == "poincare":
        raise unknown("distance", distance, ("cosine", "euclidean"))
    rows = as_vectors(vectors.vectors, distance)
    if distance == "cosine":
        return np.asarray(unit_rows(rows).float().numpy())
    sizes = rows.abs().amax(1)
    reason = "is too long or too short for the float32 distances of an index; scale the vectors"
    refuse_rows((sizes > 1e15) | (sizes.max() < 1e-15), "vectors", reason)
    return np.asarray(rows.float().numpy())


def _build_index(
    kind: str, rows: Float[np.ndarray, "n d"], metric: int, effort: int | None, seed: int
) -> Any:
    import faiss

    n, d = rows.shape
    index: Any
    if kind == "flat":
        index = faiss.IndexFlat(d, metric)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, 32, metric)
        index.hnsw.efSearch = effort or 64
    else:
        lists = max(1, min(n, int(4 * n**0.5)))
        index = faiss.IndexIVFFlat(faiss.IndexFlat(d, metric), d, lists, metric)
        index.cp.seed, index.cp.min_points_per_centroid = seed, 1
        index.nprobe = min(lists, effort or 16)
        index.train(rows)
    index.add(rows)
    return index


def _neighbors(
    index: Any, rows: Float[np.ndarray, "n d"], tried: NDArray[np.int64], k: int
) -> Int[np.ndarray, "q k"]:
    """The k nearest rows of each tried row, without itself; -1 where the index returns fewer."""
    neighbors = index.search(rows[tried], k + 1)[1]
    is_itself = neighbors == tried[:, None]
    is_itself[~is_itself.any(1), -1] = True  # the row is not among its neighbors: drop the last
    return np.asarray(neighbors[~is_itself].reshape(len(tried), k), dtype=np.int64)


def _recall_at_1(
    labels: NDArray[np.int64], tried: NDArray[np.int64], neighbors: Int[np.ndarray, "q k"]
) -> float:
    has_positive = np.bincount(labels)[labels[tried]] > 1
    if not has_positive.any():
        return float("nan")
    first = neighbors[has_positive, 0]
    return float(((first >= 0) & (labels[first] == labels[tried[has_positive]])).mean())
