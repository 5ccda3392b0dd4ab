"""Open-set recognition: is the class of a query in the gallery at all?

Every query has a score, which is high if its class seems to be in the gallery. A query is accepted
if its score reaches a threshold. Queries whose class is in the gallery are called known, the
others unknown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.inputs import as_vectors
from oodml.evaluate.precision import Comparable, comparable
from oodml.evaluate.protocol import gallery_protocol
from oodml.evaluate.query_lists import own_images, searched_rows
from oodml.evaluate.ranks import STRIP
from oodml.progress import Progress
from oodml.vectors import VectorSet

Score = Callable[[Float[Tensor, "b g"], Int[Tensor, " g"]], Float[Tensor, " b"]]
"""Scores of queries from their similarities to the gallery and the gallery's labels.

Images that are excluded for a query have the similarity -inf. A higher score means known.
"""
BLOCK = 512
FAR = 0.05  # the false-accept rate at which studies choose their threshold


def nearest_score(similarities: Float[Tensor, "b g"], labels: Int[Tensor, " g"]) -> Tensor:
    """The similarity of the nearest gallery image."""
    return similarities.amax(1)


def margin_score(similarities: Float[Tensor, "b g"], labels: Int[Tensor, " g"]) -> Tensor:
    """The similarity of the nearest class minus that of the second, 0 if there is only one."""
    best, rows = similarities.max(1)
    others = similarities.masked_fill(labels[None] == labels[rows, None], -torch.inf).amax(1)
    return torch.where(others.isfinite(), best - others, 0.0)


def density_score(
    similarities: Float[Tensor, "b g"], labels: Int[Tensor, " g"], k: int = 5
) -> Tensor:
    """The similarity of the k-th nearest gallery image or the last (Sun et al., ICML 2022)."""
    top = similarities.topk(min(k, similarities.shape[1]), dim=1).values
    return top.masked_fill(top == -torch.inf, torch.inf).amin(1)


def energy_score(
    similarities: Float[Tensor, "b g"], labels: Int[Tensor, " g"], temperature: float = 0.05
) -> Tensor:
    """The negative energy (Liu et al., NeurIPS 2020), with similarities as logits."""
    return temperature * (similarities / temperature).logsumexp(1)


SCORES: dict[str, Score] = {
    "nearest": nearest_score,
    "margin": margin_score,
    "density": density_score,
    "energy": energy_score,
}


@dataclass(frozen=True)
class OpenSetScores:
    """The scores of queries."""

    scores: Float[np.ndarray, " q"]
    known: Bool[np.ndarray, " q"]  # whether the class of the query is in the gallery
    correct: Float[np.ndarray, " q"]  # whether the nearest image has it; of several, their share
    classes: Int[np.ndarray, " q"]  # as integers


def gallery_scores(
    queries: VectorSet, gallery: VectorSet, score: str | Score = "nearest", distance: str = "cosine"
) -> OpenSetScores:
    """Score queries against a gallery; a query's own image (same id and vector) is excluded.

    `score` is a name from `SCORES`, or a function; Euclidean similarities are negative distances.
    """
    check_flat(distance)
    ids = (queries.ids, gallery.ids) if queries.has_ids and gallery.has_ids else (None, None)
    protocol = gallery_protocol(
        queries.vectors, queries.classes, distance, gallery=gallery.vectors,
        gallery_labels=gallery.classes, ids=ids[0], gallery_ids=ids[1],
    )  # fmt: skip
    groups, others, own = protocol.groups, protocol.gallery_groups, protocol.self_matches
    assert others is not None
    assert own is not None
    vectors = comparable(protocol.queries, protocol.gallery, distance)
    positives = np.bincount(others, minlength=groups.max() + 1)[groups]
    known = positives > np.bincount(own[0], minlength=len(groups))
    values = _score(vectors, groups, others, score, own)
    return OpenSetScores(values[0], known, values[1], groups)


def withheld_scores(
    vectors: VectorSet,
    score: str | Score = "nearest",
    distance: str = "cosine",
    seed: int = 0,
    n_known: int | None = None,
) -> OpenSetScores:
    """Score queries against a gallery that has `n_known` (by default half) of the classes.

    Queries and gallery are the vectors' own lists; without lists, every image is both.
    """
    check_flat(distance)
    n_classes = len(vectors.class_names)
    count = n_classes // 2 if n_known is None else n_known
    if not 0 < count < n_classes:
        problem = f"given {n_classes} classes, {count} of them known"
        raise OodmlError(f"an open set needs known and unknown classes; {problem}", given=count)
    in_gallery = np.random.default_rng(seed).permutation(n_classes)[:count]
    rows, gallery = searched_rows(vectors)
    gallery = gallery[np.isin(vectors.labels[gallery], in_gallery)]
    labels, others = vectors.labels[rows], vectors.labels[gallery]
    is_known = np.isin(labels, in_gallery)
    points = as_vectors(vectors.vectors, distance)
    first, second = (points[torch.from_numpy(side)] for side in (rows, gallery))
    pair, own = comparable(first, second, distance), own_images(rows, gallery)
    values = _score(pair, labels, others, score, own)
    positives = np.bincount(others, minlength=n_classes)[labels]
    has_positive = positives > np.isin(np.arange(len(rows)), own[0])
    used = ~is_known | has_positive  # without its own image, a single one would be unknown
    return OpenSetScores(*(part[used] for part in (values[0], is_known, values[1], labels)))


def left_out_scores(
    vectors: VectorSet, score: str | Score = "nearest", distance: str = "cosine"
) -> OpenSetScores:
    """Score every image twice among the others: as known, and with its own class left out.

    Of the scores, known queries are first. Images without another one of their class are only
    unknown.
    """
    check_flat(distance)
    if len(vectors.class_names) < 2:
        raise OodmlError("a threshold needs at least two classes", given=len(vectors.class_names))
    rows, labels = as_vectors(vectors.vectors, distance), vectors.labels
    every = np.arange(len(vectors))
    pair = comparable(rows, rows, distance)
    known = _score(pair, labels, labels, score, (every, every))
    others = _score(pair, labels, labels, score, None)
    paired = np.flatnonzero(np.bincount(labels)[labels] > 1)
    return OpenSetScores(
        np.concatenate([known[0][paired], others[0]]),
        np.arange(len(paired) + len(labels)) < len(paired),
        np.concatenate([known[1][paired], np.zeros(len(labels))]),
        np.concatenate([labels[paired], labels]),
    )


def check_flat(distance: str) -> None:
    """Refuse distances other than cosine and Euclidean."""
    if distance not in ("cosine", "euclidean"):
        raise unknown("distance", distance, ("cosine", "euclidean"))


def _score(
    vectors: Comparable,
    labels: Int[np.ndarray, " q"],
    gallery_labels: Int[np.ndarray, " g"],
    score: str | Score,
    own: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score and the correctness of each query. `own` None excludes its whole class."""
    if isinstance(score, str) and score not in SCORES:
        raise unknown("score", score, SCORES)
    function = SCORES[score] if isinstance(score, str) else score
    queries = vectors.queries
    gallery = queries if vectors.gallery is None else vectors.gallery
    others = torch.from_numpy(gallery_labels)
    scores, correct = np.empty(len(queries)), np.empty(len(queries))
    size = max(1, min(BLOCK, STRIP // len(gallery)))
    mode = f"{'donot_use' if vectors.by_differences else 'use'}_mm_for_euclid_dist"
    if own is not None:
        order = np.argsort(own[0], kind="stable")
        own = own[0][order], own[1][order]
    with Progress("Open-set scores", len(queries), "queries") as progress:
        for begin in range(0, len(queries), size):
            block = slice(begin, begin + size)
            if vectors.euclidean:
                similarities = -torch.cdist(queries[block], gallery, compute_mode=mode)
            else:
                similarities = queries[block] @ gallery.T
            same = torch.from_numpy(labels[block])[:, None] == others[None]
            if own is None:
                similarities.masked_fill_(same, -torch.inf)
            else:
                part = slice(*np.searchsorted(own[0], [begin, begin + size]))
                pairs = torch.from_numpy(own[0][part] - begin), torch.from_numpy(own[1][part])
                similarities[pairs] = -torch.inf
            scores[block] = function(similarities, others).double().numpy()
            tied = similarities == similarities.amax(1, keepdim=True)
            correct[block] = ((tied & same).sum(1) / tied.sum(1)).numpy()
            progress.advance(len(similarities))
    return scores, correct


def auroc(known: Float[np.ndarray, " k"], others: Float[np.ndarray, " u"]) -> float:
    """The probability that a known query scores higher than an unknown one; ties count half."""
    ordered = np.sort(others)
    below, reached = (np.searchsorted(ordered, known, side) for side in ("left", "right"))
    return float((below + reached).mean() / 2 / len(others))


def aupr(known: Float[np.ndarray, " k"], others: Float[np.ndarray, " u"]) -> float:
    """Average precision of the known queries among all, by descending score."""
    steps, counts = np.unique(known, return_counts=True)
    accepted = [len(part) - np.searchsorted(np.sort(part), steps) for part in (known, others)]
    return float((counts * accepted[0] / (accepted[0] + accepted[1])).sum() / len(known))


def accepted_share(scores: Float[np.ndarray, " n"], threshold: float) -> float:
    """The share of scores that reach the threshold."""
    return float((scores >= threshold).mean()) if len(scores) else float("nan")


def threshold_at(others: Float[np.ndarray, " u"], far: float) -> float:
    """The lowest threshold that accepts at most the share `far` of the unknown queries."""
    allowed = int(far * len(others) + 1e-9)
    if allowed >= len(others):
        return float("-inf") if len(others) else float("nan")
    limit = np.partition(others, len(others) - 1 - allowed)[len(others) - 1 - allowed]
    return float(np.nextafter(limit, np.inf))


def open_set_metrics(
    scored: OpenSetScores, fars: Sequence[float] = (FAR,), threshold: float | None = None
) -> dict[str, float]:
    """Every open-set metric; NaN where there are no known or no unknown queries.

    - "auroc", "aupr": over all thresholds, with known queries as positives;
    - "fpr@95tpr": the share of unknown queries accepted where 95% of the known ones are;
    - "tar@FAR", "dir@FAR": the share of known queries accepted, or accepted with a nearest image
      of their class, where the share FAR of the unknown ones is accepted;
    - "best_balanced_accuracy": the mean share of known accepted and unknown rejected queries at
      the threshold that is best for these queries;
    - with a threshold, "false_accepts", "false_rejects", "identified" (accepted with a nearest
      image of their class), and "balanced_accuracy" at it.
    """
    known, others = scored.scores[scored.known], scored.scores[~scored.known]
    correct = scored.correct[scored.known]
    values = dict.fromkeys(("auroc", "aupr", "fpr@95tpr"), np.nan)
    for far in fars:
        if not 0 < far < 1:
            raise error_at("far", f"{far}; allowed: between 0 and 1", far)
    if len(known) and len(others):
        values |= {"auroc": auroc(known, others), "aupr": aupr(known, others)}
        reached = np.sort(known)[len(known) - int(np.ceil(0.95 * len(known) - 1e-9))]
        values["fpr@95tpr"] = accepted_share(others, float(reached))
        for far in fars:
            limit = threshold_at(others, far)
            values[f"tar@{far:g}"] = accepted_share(known, limit)
            values[f"dir@{far:g}"] = float(((known >= limit) * correct).mean())
        share = partial(np.searchsorted, v=np.unique(scored.scores))
        rejected = share(np.sort(others)) / len(others) - share(np.sort(known)) / len(known)
        values["best_balanced_accuracy"] = float(0.5 + max(rejected.max(), 0.0) / 2)
    if threshold is not None:
        values["false_accepts"] = accepted_share(others, threshold)
        values["false_rejects"] = 1 - accepted_share(known, threshold)
        share_correct = ((known >= threshold) * correct).mean() if len(known) else np.nan
        values["identified"] = float(share_correct)
        values["balanced_accuracy"] = 1 - (values["false_accepts"] + values["false_rejects"]) / 2
    return values
