"""Retrieval: how well an image's nearest neighbours are of its class."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError, unknown
from oodml.evaluate.inputs import Array, as_labels, as_relevance, as_vectors, codes
from oodml.evaluate.ranks import RankBlock, positive_ranks

PerQuery = dict[str, NDArray[np.float64]]


@overload
def retrieval_metrics(
    vectors: Array,
    labels: Array,
    *,
    ks: Iterable[int] = ...,
    gallery: Array | None = ...,
    gallery_labels: Array | None = ...,
    distance: str = ...,
    seed: int = ...,
    relevance: Mapping[Any, Any] | Array | None = ...,
    gallery_relevance: Array | None = ...,
    average: str = ...,
    per_query: Literal[False] = ...,
) -> dict[str, float]: ...


@overload
def retrieval_metrics(
    vectors: Array,
    labels: Array,
    *,
    ks: Iterable[int] = ...,
    gallery: Array | None = ...,
    gallery_labels: Array | None = ...,
    distance: str = ...,
    seed: int = ...,
    relevance: Mapping[Any, Any] | Array | None = ...,
    gallery_relevance: Array | None = ...,
    average: str = ...,
    per_query: Literal[True],
) -> PerQuery: ...


def retrieval_metrics(
    vectors: Array,
    labels: Array,
    *,
    ks: Iterable[int] = (1, 2, 4, 8),
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    distance: str = "cosine",
    seed: int = 0,
    relevance: Mapping[Any, Any] | Array | None = None,
    gallery_relevance: Array | None = None,
    average: str = "micro",
    per_query: bool = False,
) -> dict[str, float] | PerQuery:
    """Every retrieval metric of vectors [n d] with labels [n] (integers or strings).

    Each image is a query among all others or, if a gallery [m d] with its labels [m] is given,
    in the gallery. A query without a positive there is left out: "queries" counts those that
    stay, "singletons" those left out. With R positives at ranks r₁ < r₂ < … a query scores

    - "recall@k": 1 if r₁ ≤ k; "precision@k": the share of positives among the k nearest;
    - "r_precision": the share among the R nearest; "mrr": 1/r₁;
    - "map": the mean of i/rᵢ over all positives; "map@r": the same with zero for rᵢ > R
      (Musgrave et al., A Metric Learning Reality Check, 2020);
    - "map@1000": the sum of i/rᵢ over rᵢ ≤ 1000, divided by the smaller of R and 1000.

    Without a gallery, what the study of arXiv 2107.09562 printed stands under "…_published":
    singletons count as failures, precision is divided by the class size with the query in it
    ("map", "map@1000"), and "map@c" reaches to the rank of that size. Perfect embeddings do
    not score 1 there.

    distance: "cosine" or "euclidean" on vectors as given. Images at equal distance stand in a
    random order drawn from `seed`. float64 vectors are compared in float64, others in float32.
    relevance: what makes a positive if not the label: a mapping from labels to groups (class
    to superclass), or the group of each row (then `gallery_relevance` for a gallery).
    average: over queries ("micro") or over labels, each the mean of its queries ("macro").
    per_query: give arrays [n] in place of averages, NaN where a query is left out, and
    "positives", R of each.

    Raises `OodmlError` for vectors that are not finite or, with "cosine", zero; for labels of
    another length; and where no query has a positive.
    """
    cutoffs = _checked_cutoffs(ks)
    if average not in ("micro", "macro"):
        raise unknown("average", average, ("micro", "macro"))
    protocol = _protocol(
        vectors, labels, gallery, gallery_labels, distance, relevance, gallery_relevance
    )
    generator = torch.Generator(protocol.queries.device).manual_seed(seed)
    values = _values(protocol, cutoffs, distance == "euclidean", generator)
    if per_query:
        return values
    return averages(values, labels, average)


def per_class(values: PerQuery, labels: Array) -> tuple[NDArray[Any], PerQuery]:
    """The labels, sorted, and the mean of each metric over the queries of each label.

    `values` come from `retrieval_metrics(…, per_query=True)`. NaN where a label has no query.
    """
    names, (inverse,) = codes(as_labels(labels, len(values["positives"])))
    return names, {name: _label_means(column, inverse) for name, column in values.items()}


def averages(values: PerQuery, labels: Array, average: str = "micro") -> dict[str, float]:
    """What `retrieval_metrics` gives, from its arrays per query and the label of each query."""
    asked = ~np.isnan(values["positives"])
    if not asked.any():
        raise OodmlError(f"none of the {len(asked)} queries has a positive in the gallery")
    _, (inverse,) = codes(as_labels(labels, len(asked)))
    means = {}
    for name, column in values.items():
        if name == "positives":
            continue
        if name.endswith("_published"):
            means[name] = float(column.mean())
        elif average == "micro":
            means[name] = float(column[asked].mean())
        else:
            means[name] = float(np.nanmean(_label_means(column, inverse)))
    return means | {"queries": float(asked.sum()), "singletons": float((~asked).sum())}


@dataclass(frozen=True)
class _Protocol:
    queries: Float[Tensor, "n d"]
    groups: NDArray[np.int64]
    gallery: Float[Tensor, "m d"] | None
    gallery_groups: NDArray[np.int64] | None


def _protocol(
    vectors: Array,
    labels: Array,
    gallery: Array | None,
    gallery_labels: Array | None,
    distance: str,
    relevance: Mapping[Any, Any] | Array | None,
    gallery_relevance: Array | None,
) -> _Protocol:
    """Who is asked, who answers, and what counts as right."""
    queries = as_vectors(vectors, distance)
    named = as_labels(labels, len(queries))
    groups = named if relevance is None else as_relevance(relevance, named, "relevance")
    if gallery is None:
        if gallery_labels is not None or gallery_relevance is not None:
            raise OodmlError("gallery_labels and gallery_relevance need a gallery")
        return _Protocol(queries, codes(groups)[1][0], None, None)
    if gallery_labels is None:
        raise OodmlError("a gallery needs gallery_labels")
    others = as_vectors(gallery, distance, "gallery").to(queries.device)
    if others.shape[1] != queries.shape[1]:
        raise OodmlError(
            f"gallery vectors have {others.shape[1]} dimensions, the queries {queries.shape[1]}"
        )
    kind = torch.promote_types(queries.dtype, others.dtype)
    answers = as_labels(gallery_labels, len(others), "gallery_labels")
    if relevance is not None:
        groups_of = relevance if isinstance(relevance, Mapping) else gallery_relevance
        if groups_of is None:
            raise OodmlError("relevance as an array needs gallery_relevance beside a gallery")
        answers = as_relevance(groups_of, answers, "gallery_relevance")
    asked, answering = codes(groups, answers)[1]
    return _Protocol(queries.to(kind), asked, others.to(kind), answering)


def _checked_cutoffs(ks: Iterable[int]) -> tuple[int, ...]:
    cutoffs = tuple(dict.fromkeys(ks))
    for k in cutoffs:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise OodmlError(f"ks: {k!r} is not a whole number from 1")
    return tuple(int(k) for k in cutoffs)


def _values(
    protocol: _Protocol, ks: Sequence[int], euclidean: bool, generator: torch.Generator
) -> PerQuery:
    """Every metric of every query."""
    n = len(protocol.queries)
    metrics = _metrics(ks, published=protocol.gallery is None)
    table = torch.full((n, len(metrics)), torch.nan, dtype=torch.float64)
    blocks = positive_ranks(
        protocol.queries,
        protocol.groups,
        protocol.gallery,
        protocol.gallery_groups,
        euclidean=euclidean,
        generator=generator,
    )
    for block in blocks:
        hits = _Hits(block)
        columns = [metric(hits) for metric in metrics.values()]
        table[block.rows.cpu()] = torch.stack(columns, 1).cpu()
    values = {name: table[:, i].numpy() for i, name in enumerate(metrics)}
    for name, column in values.items():
        if name.endswith("_published"):
            np.nan_to_num(column, copy=False)
    return values


class _Hits:
    """A block's positives as the metrics use them."""

    def __init__(self, block: RankBlock) -> None:
        slots = torch.arange(1, block.ranks.shape[1] + 1, device=block.ranks.device)
        self.valid = block.valid
        self.ranks = block.ranks.double()
        self.counts = block.counts.double()
        self.first = self.ranks[:, 0]
        self.precision = slots / self.ranks * self.valid

    def within(self, limit: Float[Tensor, " b"] | int) -> Float[Tensor, " b"]:
        """How many positives stand at ranks up to the limit."""
        return self._reached(limit).sum(1).double()

    def precision_within(self, limit: Float[Tensor, " b"] | int) -> Float[Tensor, " b"]:
        """The sum of the precisions at the positives at ranks up to the limit."""
        return (self.precision * self._reached(limit)).sum(1)

    def _reached(self, limit: Float[Tensor, " b"] | int) -> Tensor:
        reach = limit[:, None] if isinstance(limit, Tensor) else limit
        return self.valid & (self.ranks <= reach)


def _recall(hits: _Hits, k: int) -> Float[Tensor, " b"]:
    return (hits.first <= k).double()


def _precision(hits: _Hits, k: int) -> Float[Tensor, " b"]:
    return hits.within(k) / k


Metric = Callable[[_Hits], Float[Tensor, " b"]]


def _metrics(ks: Sequence[int], published: bool) -> dict[str, Metric]:
    """Each metric by its name, as a function of a block's hits. A new metric is a line here."""
    metrics: dict[str, Metric] = {}
    for k in ks:
        metrics[f"recall@{k}"] = partial(_recall, k=k)
    for k in ks:
        metrics[f"precision@{k}"] = partial(_precision, k=k)
    metrics |= {
        "r_precision": lambda hits: hits.within(hits.counts) / hits.counts,
        "map@r": lambda hits: hits.precision_within(hits.counts) / hits.counts,
        "map@1000": lambda hits: hits.precision_within(1000) / hits.counts.clamp(max=1000),
        "map": lambda hits: hits.precision.sum(1) / hits.counts,
        "mrr": lambda hits: 1 / hits.first,
        "positives": lambda hits: hits.counts,
    }
    if published:
        for k in ks:
            metrics[f"recall@{k}_published"] = metrics[f"recall@{k}"]
        metrics |= {
            "map@c_published": lambda hits: (
                hits.precision_within(hits.counts + 1) / (hits.counts + 1)
            ),
            "map@1000_published": lambda hits: hits.precision_within(1000) / (hits.counts + 1),
            "map_published": lambda hits: hits.precision.sum(1) / (hits.counts + 1),
        }
    return metrics


def _label_means(column: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    known = ~np.isnan(column)
    totals = np.bincount(labels, np.where(known, column, 0.0))
    counts = np.bincount(labels, known)
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)
