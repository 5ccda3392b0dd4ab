"""Retrieval metrics by sorting each query's gallery in a loop: slow, plain, independent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def naive_metrics(
    vectors: NDArray[Any],
    labels: Sequence[Any],
    ks: Sequence[int] = (1, 2, 4, 8),
    gallery: NDArray[Any] | None = None,
    gallery_labels: Sequence[Any] | None = None,
    distance: str = "cosine",
) -> dict[str, float]:
    """As `oodml.retrieval_metrics`, in float64, without ties."""
    itself = gallery is None
    queries = np.asarray(vectors, dtype=np.float64)
    others = queries if gallery is None else np.asarray(gallery, dtype=np.float64)
    names = list(labels) if gallery_labels is None else list(gallery_labels)
    rows: list[dict[str, float]] = []
    left_out = 0
    for i, query in enumerate(queries):
        if distance == "cosine":
            lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(query)
            distances = 1 - others @ query / lengths
        else:
            distances = np.sqrt(((others - query) ** 2).sum(1))
        order = [j for j in np.argsort(distances) if not (itself and j == i)]
        hits = [names[j] == labels[i] for j in order]
        if not any(hits):
            left_out += 1
            continue
        rows.append(_query(hits, ks))
    averages = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    if not itself:
        averages = {key: value for key, value in averages.items() if "published" not in key}
    for key in averages:
        if key.endswith("_published"):
            averages[key] *= len(rows) / len(queries)
    return averages | {"queries": float(len(rows)), "singletons": float(left_out)}


def _query(hits: list[bool], ks: Sequence[int]) -> dict[str, float]:
    n_hits = sum(hits)
    precisions = []
    so_far = 0
    for rank, hit in enumerate(hits, 1):
        so_far += hit
        precisions.append(so_far / rank if hit else 0.0)
    found = {f"recall@{k}": float(any(hits[:k])) for k in ks}
    found |= {f"recall@{k}_published": float(any(hits[:k])) for k in ks}
    found |= {f"precision@{k}": sum(hits[:k]) / k for k in ks}
    return found | {
        "r_precision": sum(hits[:n_hits]) / n_hits,
        "map@r": sum(precisions[:n_hits]) / n_hits,
        "map@1000": sum(precisions[:1000]) / min(n_hits, 1000),
        "map": sum(precisions) / n_hits,
        "mrr": 1 / (hits.index(True) + 1),
        "map@c_published": sum(precisions[: n_hits + 1]) / (n_hits + 1),
        "map@1000_published": sum(precisions[:1000]) / (n_hits + 1),
        "map_published": sum(precisions) / (n_hits + 1),
    }
