"""A threshold for accepting queries: its interval over classes, and its conformal guarantee."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.decisions.open_set import (
    OpenSetScores,
    Score,
    accepted_share,
    gallery_scores,
    left_out_scores,
    threshold_at,
)
from oodml.errors import OodmlError, unknown
from oodml.evaluate.compare import class_draws
from oodml.evaluate.inputs import as_vectors, check_seed
from oodml.evaluate.precision import comparable
from oodml.files import write_text
from oodml.vectors import VectorSet

MODES = ("identification", "pairs")
MAX_PAIRS = 500_000  # random pairs of images that `mode = "pairs"` uses at most
Side = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64] | None]
"""Descending scores, the class of each, and for pairs the class of the second image."""


@dataclass(frozen=True)
class Threshold:
    """A threshold and how it was chosen.

    Attributes:
        threshold: queries are accepted if their score reaches it.
        far: the false-accept rate that it was chosen for.
        tar, tar_low, tar_high: the share of known queries (pairs of one class) that it accepts.
        conformal: the threshold at which a random image of a new class is accepted with a
            probability of at most `far`, if the new class is exchangeable with the given ones.
            None if there are too few classes: a guarantee needs 1/far - 1.
        mode: "identification" or "pairs".
        classes, images: of the unknown queries that it was chosen on.
    """

    threshold: float
    low: float
    high: float
    far: float
    tar: float
    tar_low: float
    tar_high: float
    conformal: float | None
    mode: str
    score: str
    distance: str
    classes: int
    images: int

    def save(self, path: str | Path) -> None:
        """Write the threshold to a JSON file."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Threshold":
        """Read a file that `save` wrote."""
        try:
            values = json.loads(Path(path).read_text("utf-8"))
            loaded = cls(**values)
            loaded.threshold + loaded.far
        except (OSError, ValueError, TypeError) as error:
            raise OodmlError(
                f"{path}: not a threshold; `oodml threshold` writes one ({error})",
                location=str(path),
            ) from error
        return loaded


def choose_threshold(
    vectors: VectorSet,
    far: float = 0.01,
    *,
    gallery: VectorSet | None = None,
    mode: str = "identification",
    score: str | Score = "nearest",
    distance: str = "cosine",
    seed: int = 0,
    resamples: int = 1000,
) -> Threshold:
    """Choose the threshold that accepts a given share of unknown queries.

    Args:
        vectors: labeled vectors of classes that the model was not trained on.
        far: the false-accept rate, between 0 and 1.
        gallery: the gallery to search; queries of other classes are unknown. By default, each
            image searches the other images with its own class left out.
        mode: "identification", or "pairs" to accept pairs of images by their similarity.
        score: of identification; a name from `oodml.decisions.open_set.SCORES`, or a function.
    """
    check_seed(seed)
    if not 0 < far < 1:
        raise OodmlError(f"far: {far}; allowed: between 0 and 1", location="far", given=far)
    scored, partners = score_queries(
        vectors, gallery=gallery, mode=mode, score=score, distance=distance, seed=seed
    )
    others = scored.scores[~scored.known]
    if not len(others) or scored.known.sum() == 0:
        raise OodmlError(
            f"a threshold needs known and unknown queries; given {int(scored.known.sum())} and "
            f"{len(others)}",
            given=len(others),
        )
    limit = threshold_at(others, far)
    resampled = np.array([*_resamples(scored, partners, far, resamples, seed)])
    low, high = np.quantile(resampled[:, 0], [0.025, 0.975], method="nearest")
    tar_low, tar_high = np.nanquantile(resampled[:, 1], [0.025, 0.975])
    classes = scored.classes[~scored.known]
    guarantee = None if mode == "pairs" else conformal_threshold(others, classes, far)
    return Threshold(
        limit, float(low), float(high), far,
        accepted_share(scored.scores[scored.known], limit), float(tar_low), float(tar_high),
        guarantee, mode, _score_name(mode, score), distance, len(np.unique(classes)), len(others),
    )  # fmt: skip


def score_queries(
    vectors: VectorSet,
    *,
    gallery: VectorSet | None,
    mode: str,
    score: str | Score,
    distance: str,
    seed: int,
) -> tuple[OpenSetScores, NDArray[np.int64] | None]:
    """The scores that a threshold is chosen on, and for pairs the class of the second image."""
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if mode == "pairs":
        return score_pairs(vectors, distance, seed)
    if gallery is None:
        return left_out_scores(vectors, score, distance), None
    return gallery_scores(vectors, gallery, score, distance), None


def _score_name(mode: str, score: str | Score) -> str:
    if mode == "pairs":
        return "similarity"
    return score if isinstance(score, str) else getattr(score, "__name__", "score")


def conformal_threshold(
    scores: Float[np.ndarray, " u"], classes: Int[np.ndarray, " u"], far: float
) -> float | None:
    """The threshold with a guaranteed false-accept rate for exchangeable classes.

    Hierarchical conformal prediction (Lee, Barber & Willett 2023): classes have equal weights,
    and so have the images of a class; the new class adds a weight above all scores. An image of a
    new class is then accepted with a probability of at most `far`, over the choice of all classes.

    Returns:
        The threshold; None if no finite one is guaranteed.
    """
    _, inverse, counts = np.unique(classes, return_inverse=True, return_counts=True)
    share = 1 / (len(counts) + 1)
    steps, position = np.unique(scores, return_inverse=True)
    weights = np.bincount(position, share / counts[inverse])
    above = share + np.cumsum(weights[::-1])[::-1] - weights
    allowed = np.flatnonzero(above <= far + 1e-12)
    return float(np.nextafter(steps[allowed[0]], np.inf)) if len(allowed) else None


def score_pairs(
    vectors: VectorSet, distance: str, seed: int
) -> tuple[OpenSetScores, NDArray[np.int64]]:
    """Similarities of pairs of images, and the class of the second image of each.

    All pairs of fewer than 1,000 images are used, else random ones; see `MAX_PAIRS`.
    """
    rows, labels = as_vectors(vectors.vectors, distance), vectors.labels
    unit = comparable(rows, None, distance == "euclidean").queries
    first, second = np.triu_indices(len(rows), 1) if len(rows) < 1000 else _draw(labels, seed)
    parts = []
    for begin in range(0, len(first), 2**16):
        a, b = unit[first[begin : begin + 2**16]], unit[second[begin : begin + 2**16]]
        value = -(a - b).norm(dim=1) if distance == "euclidean" else (a * b).sum(1)
        parts.append(value.double().numpy())
    known = labels[first] == labels[second]
    scored = OpenSetScores(np.concatenate(parts), known, known.astype(float), labels[first])
    return scored, labels[second]


def _draw(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Random pairs: half of any images, half of one class."""
    generator = np.random.default_rng(seed)
    n, count = len(labels), MAX_PAIRS // 2
    first = generator.integers(n, size=count)
    second = (first + generator.integers(1, n, size=count)) % n
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    same = generator.choice(np.flatnonzero(sizes[labels] > 1), size=count)
    position = np.empty(n, dtype=np.int64)
    position[order] = np.arange(n) - starts[labels[order]]
    shift = generator.integers(1, sizes[labels[same]])
    partner = order[starts[labels[same]] + (position[same] + shift) % sizes[labels[same]]]
    different = labels[first] != labels[second]
    return (np.concatenate([first[different], same]), np.concatenate([second[different], partner]))


def _resamples(
    scored: OpenSetScores, partners: NDArray[np.int64] | None, far: float, resamples: int, seed: int
) -> Iterator[tuple[float, float]]:
    """The threshold and the share of accepted known queries in each resample of the classes."""
    _, classes = np.unique(scored.classes, return_inverse=True)
    if partners is not None:
        _, both = np.unique(np.concatenate([scored.classes, partners]), return_inverse=True)
        classes, partners = both[: len(classes)], both[len(classes) :]
    sides: list[Side] = []
    for is_known in (False, True):
        rows = np.flatnonzero(scored.known == is_known)
        rows = rows[np.argsort(-scored.scores[rows], kind="stable")]
        second = None if partners is None else partners[rows]
        sides.append((scored.scores[rows], classes[rows], second))
    n_classes = int(max(part.max() for part in (classes, partners) if part is not None)) + 1
    size = max(1, 2**22 // len(scored.scores))
    for draws in class_draws(n_classes, resamples, seed):
        for begin in range(0, len(draws), size):
            weights = draws[begin : begin + size]
            yield from _weighted_thresholds(sides, weights, far)


def _weighted_thresholds(
    sides: list[Side], weights: Float[np.ndarray, "r c"], far: float
) -> Iterator[tuple[float, float]]:
    """The threshold and the accepted share under each row of weights of the classes."""
    totals = [
        np.cumsum(weights[:, first] * (1 if second is None else weights[:, second]), axis=1)
        for _, first, second in sides
    ]
    (others, _, _), (known, _, _) = sides
    excess = totals[0] <= far * totals[0][:, -1:] + 1e-9
    limits = others[np.minimum(excess.sum(1), len(others) - 1)]
    accepted = np.searchsorted(-known, -limits, side="left")
    shares = np.where(accepted > 0, totals[1][np.arange(len(limits)), accepted - 1], 0.0)
    with np.errstate(invalid="ignore"):
        rates = shares / totals[1][:, -1]
    yield from zip(np.nextafter(limits, np.inf), rates, strict=True)
