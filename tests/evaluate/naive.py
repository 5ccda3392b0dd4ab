"""Retrieval metrics computed independently: a loop that sorts each query's gallery."""

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
    """What `oodml.retrieval_metrics` computes, in float64 and assuming no ties."""
    same_images = gallery is None
    queries = np.asarray(vectors, dtype=np.float64)
    others = queries if gallery is None else np.asarray(gallery, dtype=np.float64)
    names = list(labels) if gallery_labels is None else list(gallery_labels)
    rows: list[dict[str, float]] = []
    n_excluded = 0
    for i, query in enumerate(queries):
        if distance == "cosine":
            lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(query)
            distances = 1 - others @ query / lengths
        elif distance == "poincare":
            gaps = (1 - (others**2).sum(1)) * (1 - (query**2).sum())
            distances = np.arccosh(1 + 2 * ((others - query) ** 2).sum(1) / gaps)
        else:
            distances = np.sqrt(((others - query) ** 2).sum(1))
        order = [j for j in np.argsort(distances) if not (same_images and j == i)]
        hits = [names[j] == labels[i] for j in order]
        if not any(hits):
            n_excluded += 1
            continue
        rows.append(_query(hits, ks))
    averages = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    if not same_images:
        averages = {key: value for key, value in averages.items() if "published" not in key}
    for key in averages:
        if key.endswith("_published"):
            averages[key] *= len(rows) / len(queries)
    return averages | {"queries": float(len(rows)), "singletons": float(n_excluded)}


def _query(hits: list[bool], ks: Sequence[int]) -> dict[str, float]:
    n_hits = sum(hits)
    precisions = []
    so_far = 0
    for rank, hit in enumerate(hits, 1):
        so_far += hit
        precisions.append(so_far / rank if hit else 0.0)
    scores = {f"recall@{k}": float(any(hits[:k])) for k in ks}
    scores |= {f"recall@{k}_published": float(any(hits[:k])) for k in ks}
    scores |= {f"precision@{k}": sum(hits[:k]) / k for k in ks}
    return scores | {
        "r_precision": sum(hits[:n_hits]) / n_hits,
        "map@r": sum(precisions[:n_hits]) / n_hits,
        "map@1000": sum(precisions[:1000]) / min(n_hits, 1000),
        "map": sum(precisions) / n_hits,
        "mrr": 1 / (hits.index(True) + 1),
        "map@c_published": sum(precisions[: n_hits + 1]) / (n_hits + 1),
        "map@1000_published": sum(precisions[:1000]) / (n_hits + 1),
        "map_published": sum(precisions) / (n_hits + 1),
    }
