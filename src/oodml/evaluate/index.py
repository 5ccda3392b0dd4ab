"""A search index for production, and what it loses against exact search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.errors import OodmlError, unknown
from oodml.evaluate.inputs import as_vectors
from oodml.files import replacing
from oodml.vectors import VectorSet

KINDS = ("flat", "ivf", "hnsw")


@dataclass(frozen=True)
class IndexReport:
    """What an index finds of the exact nearest neighbours.

    found: share of the `k` exact nearest neighbours that it returns, mean over the queries.
    recall, exact_recall: Recall@1 with the index and by exact search, on the same queries.
    """

    kind: str
    vectors: int
    dimensions: int
    queries: int
    k: int
    found: float
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
    """Write a faiss index, and `NAME.ids.csv` beside it with the id and class of each of its rows.

    kind: "flat" (exact), "ivf" (inverted lists, 4√n of them) or "hnsw" (a graph of 32
    neighbours). With "cosine" the index holds unit vectors under the inner product; queries
    must have length 1 too. effort: lists searched ("ivf", 16) or candidates kept ("hnsw", 64).
    The report comes from `queries` rows drawn from `seed`, each without itself.
    """
    import faiss

    if kind not in KINDS:
        raise unknown("index", kind, KINDS)
    target = Path(path)
    if len(vectors) < 2:
        raise OodmlError(f"{len(vectors)} vector; an index needs two")
    rows = as_vectors(vectors.vectors, distance).numpy()
    metric = faiss.METRIC_INNER_PRODUCT if distance == "cosine" else faiss.METRIC_L2
    exact = _built("flat", rows, metric, None, seed)
    index = exact if kind == "flat" else _built(kind, rows, metric, effort, seed)
    with replacing(target) as temporary:
        faiss.write_index(index, str(temporary))
    with replacing(target.with_suffix(".ids.csv")) as temporary:
        table = pd.DataFrame({"id": vectors.ids, "class": vectors.classes})
        table.to_csv(temporary, index=False)
    asked = np.random.default_rng(seed).permutation(len(rows))[:queries]
    reach = min(k, len(rows) - 1)
    best, near = (_neighbours(one, rows, asked, reach) for one in (exact, index))
    found = [len(np.intersect1d(a, b)) / reach for a, b in zip(best, near, strict=True)]
    recalls = [_recall(vectors.labels, asked, one) for one in (near, best)]
    return IndexReport(
        kind, len(rows), rows.shape[1], len(asked), reach, float(np.mean(found)), *recalls
    )


def _built(
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


def _neighbours(
    index: Any, rows: Float[np.ndarray, "n d"], asked: NDArray[np.int64], k: int
) -> Int[np.ndarray, "q k"]:
    """The k nearest of each row asked for, itself left out; -1 where the index finds fewer."""
    found = index.search(rows[asked], k + 1)[1]
    itself = found == asked[:, None]
    itself[~itself.any(1), -1] = True  # not among its own neighbours: the last one goes
    return np.asarray(found[~itself].reshape(len(asked), k), dtype=np.int64)


def _recall(
    labels: NDArray[np.int64], asked: NDArray[np.int64], found: Int[np.ndarray, "q k"]
) -> float:
    counts = np.bincount(labels)
    several = counts[labels[asked]] > 1
    if not several.any():
        return float("nan")
    first = found[several, 0]
    return float(((first >= 0) & (labels[first] == labels[asked[several]])).mean())
