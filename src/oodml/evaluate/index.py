"""A search index for production, and its recall compared with exact search."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.compare import compare_values
from oodml.evaluate.inputs import as_vectors, check_seed, refuse_rows
from oodml.evaluate.precision import unit_rows
from oodml.evaluate.query_lists import split_lists
from oodml.files import replacing
from oodml.vector_files import READABLE
from oodml.vectors import VectorSet

KINDS = ("flat", "ivf", "hnsw")


@dataclass(frozen=True)
class IndexReport:
    """How well an index approximates exact search."""

    kind: str
    vectors: int
    dimensions: int
    queries: int  # that were tried
    k: int  # neighbors per query
    neighbor_recall: float  # the mean share of the k exact neighbors that the index returns
    recall: float  # Recall@1 with the index
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
    """Write a faiss index, measure its recall, and write ids and classes to `NAME.ids.csv`.

    Args:
        vectors, path: the vectors [n d] of the gallery, and the file to write, such as "a.faiss".
        kind: "flat" (exact), "ivf" (4√n inverted lists), or "hnsw" (a graph with 32 neighbors).
        distance: "cosine" stores unit vectors and searches by inner product, so queries must have
            length 1, too; "euclidean" stores the vectors as given.
        effort: lists searched ("ivf", default 16) or candidates per query ("hnsw", default 64).
        k, queries: neighbors to compare with exact search, for so many rows without themselves.
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
        problem = f"{effort}; a flat index always searches everything. Choose ivf or hnsw"
        raise error_at("effort", problem, effort, ("ivf", "hnsw"))
    if effort is not None and effort < 1:
        raise error_at("effort", f"{effort}; allowed: whole numbers from 1", effort)
    rows, labels = _index_rows(vectors, distance), vectors.labels
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
    best, near = (_neighbors(one, rows[tried], tried, reach) for one in (exact, index))
    share = [len(np.intersect1d(a, b)) / reach for a, b in zip(best, near, strict=True)]
    scored = np.bincount(labels)[labels[tried]] > 1
    hits = ((one[:, 0] >= 0) & (labels[one[:, 0]] == labels[tried]) for one in (near, best))
    recalls = [float(hit[scored].mean()) if scored.any() else np.nan for hit in hits]
    n, width = rows.shape
    return IndexReport(kind, n, width, len(tried), reach, float(np.mean(share)), *recalls)


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
    index: Any, rows: Float[np.ndarray, "q d"], own: NDArray[np.int64], k: int
) -> Int[np.ndarray, "q k"]:
    """The k nearest rows of each query, without its own (-1: none); -1 where there are fewer."""
    neighbors = index.search(rows, k + 1)[1]
    is_itself = (neighbors == own[:, None]) & (own >= 0)[:, None]
    is_itself[~is_itself.any(1), -1] = True  # the row is not among its neighbors: drop the last
    return np.asarray(neighbors[~is_itself].reshape(len(rows), k), dtype=np.int64)


def index_errors(
    queries: VectorSet,
    path: str | Path,
    gallery: VectorSet | None = None,
    *,
    ks: Sequence[int] = (1,),
    distance: str = "cosine",
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Separate the failures of an index from those of the model: exact search against the index.

    Args:
        queries: those without a positive in the gallery are left out.
        path: a faiss index of the gallery. If `NAME.ids.csv` is beside it, as `write_index` writes
            it, its ids say which vector each row of the index is; else rows are in the same order.
        gallery: the vectors of the index; by default the queries' own gallery or, if they have no
            lists, the queries, each without itself.
        ks: cut-offs of recall.
        distance: "cosine", or "euclidean" for an index of Euclidean distances.

    Returns:
        One row per cut-off: `k`; Recall@k by `exact` search and with the `index`; the share of
        queries that the index has `lost` and `gained`; and the 95% interval of exact - index
        (`loss`, `low`, `high`) from resampling classes.
    """
    if gallery is None:
        queries, gallery = split_lists(queries)
    known = queries if gallery is None else gallery
    stored = _index_rows(known, distance)
    index = _read_index(path, stored, distance)
    order = _index_order(Path(path), known)
    own = np.full(len(queries), -1)
    if gallery is None or (queries.has_ids and gallery.has_ids):
        own = pd.Index(known.ids[order]).get_indexer(pd.Index(queries.ids))
    labels = known.classes[order]
    counts = pd.Series(labels).value_counts()
    itself = (own >= 0) & (labels[own] == queries.classes)
    used = counts.reindex(queries.classes, fill_value=0).to_numpy() > itself
    if not used.any():
        raise OodmlError("no query has a positive in the gallery", location="queries")
    exact = _build_index("flat", stored[order], index.metric_type, None, 0)
    rows = _index_rows(queries, distance)[used]
    reach = min(max(ks), len(stored) - 1)
    hits = []
    for one in (exact, index):
        near = _neighbors(one, rows, own[used], reach)
        right = (labels[near] == queries.classes[used][:, None]) & (near >= 0)
        hits.append(np.logical_or.accumulate(right, axis=1).astype(np.float64))
    table = []
    for k in ks:
        best, given = (side[:, min(k, reach) - 1] for side in hits)
        one = compare_values(f"recall@{k}", best, given, queries.labels[used], seed, resamples)
        table.append((k, one.a, one.b, float((best > given).mean()), float((given > best).mean()),
                      one.difference, one.low, one.high))  # fmt: skip
    columns = ["k", "exact", "index", "lost", "gained", "loss", "low", "high"]
    return pd.DataFrame(table, columns=columns)


def _read_index(path: str | Path, stored: Float[np.ndarray, "n d"], distance: str) -> Any:
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise error_at(path, f"not a faiss index: {error}") from error
    if (index.ntotal, index.d) != stored.shape:
        problem = f"has {index.ntotal} rows of {index.d} dimensions, the gallery {stored.shape}"
        raise error_at(path, problem, (index.ntotal, index.d), map(str, stored.shape))
    if index.metric_type == faiss.METRIC_INNER_PRODUCT and distance == "euclidean":
        raise error_at(path, "is an index of inner products; use cosine", distance, ("cosine",))
    return index


def _index_order(path: Path, vectors: VectorSet) -> NDArray[np.int64]:
    listed = path.with_suffix(".ids.csv")
    if not listed.exists():
        return np.arange(len(vectors))
    ids = pd.read_csv(listed, dtype=str, keep_default_na=False)["id"].to_numpy()
    order = pd.Index(vectors.ids).get_indexer(pd.Index(ids))
    if (order < 0).any() or len(ids) != len(vectors):
        given = next(iter(ids[order < 0]), len(ids))
        raise error_at(listed, f"does not list the vectors of the gallery; given {given!r}", given)
    return np.asarray(order)
