"""A threshold for accepting queries: its interval over classes, and its conformal guarantee."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.compare import class_draws
from oodml.evaluate.inputs import as_vectors, check_seed
from oodml.evaluate.precision import comparable
from oodml.files import write_text
from oodml.vectors import VectorSet

MODES = ("identification", "pairs")
MAX_PAIRS = 500_000  # random pairs of images that `mode = "pairs"` uses at most


@dataclass(frozen=True)
class Threshold:
    """A threshold and how it was chosen."""

    threshold: float  # queries are accepted if their score reaches it
    low: float
    high: float
    far: float  # the false-accept rate that it was chosen for
    tar: float  # the share of known queries (pairs of one class) that it accepts
    tar_low: float
    tar_high: float
    conformal: float | None
    """Accepts a random image of a new class with a probability of at most `far`, if the new class
    is exchangeable with the given ones; None if there are fewer than 1/far - 1 classes."""
    mode: str  # "identification" or "pairs"
    score: str
    distance: str
    classes: int  # of the unknown queries (pairs of two classes) that it was chosen on
    unknown: int  # the number of these queries (pairs)
    false_accepts: float  # the share of them that it accepts

    def save(self, path: str | Path) -> None:
        """Write the threshold to a JSON file."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Threshold":
        """Read a file that `save` wrote."""
        try:
            loaded = cls(**json.loads(Path(path).read_text("utf-8")))
            loaded.threshold + loaded.far
        except (OSError, ValueError, TypeError) as error:
            problem = f"not a threshold; `oodml threshold` writes one ({error})"
            raise error_at(path, problem) from error
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
    conformal: bool = False,
) -> Threshold:
    """Choose the threshold that accepts a given share of unknown queries.

    Args:
        vectors: labeled vectors of classes that the model was not trained on.
        far: the false-accept rate, between 0 and 1.
        gallery: the gallery to search; queries of other classes are unknown. By default, each
            image searches the other images with its own class left out.
        mode: "identification", or "pairs" to accept pairs of images by their similarity.
        score: of identification; a name from `oodml.decisions.open_set.SCORES`, or a function.
        distance: "cosine", or "euclidean" on the vectors as given.
        seed, resamples: random seed, and resamples of the classes for the 95% intervals.
        conformal: choose the threshold of `conformal_threshold`, which has a guarantee.

    Raises:
        OodmlError: if there are no known or no unknown queries, or too few classes for a guarantee.
    """
    check_seed(seed)
    if not 0 < far < 1:
        raise error_at("far", f"{far}; allowed: between 0 and 1", far)
    options: dict[str, Any] = {"mode": mode, "score": score, "distance": distance, "seed": seed}
    scored, partners = score_queries(vectors, gallery=gallery, **options)
    require_unknown(scored)
    known, others = scored.scores[scored.known], scored.scores[~scored.known]
    classes = scored.classes[~scored.known]
    guarantee = None if mode == "pairs" else conformal_threshold(others, classes, far)
    seconds = classes if partners is None else partners[~scored.known]
    count = len(np.union1d(classes, seconds))
    if conformal and guarantee is None:
        problem = f"{count} classes guarantee no rate below {1 / (count + 1):.3g}"
        problem = "mode pairs has no guarantee" if mode == "pairs" else problem
        raise error_at("--conformal", problem, far)
    limit = guarantee if conformal and guarantee is not None else threshold_at(others, far)
    resampled = np.array([*_resamples(scored, partners, far, resamples, seed, conformal)])
    low, high = np.quantile(resampled[:, 0], [0.025, 0.975], method="nearest").tolist()
    tar_low, tar_high = np.nanquantile(resampled[:, 1], [0.025, 0.975]).tolist()
    name = score if isinstance(score, str) else getattr(score, "__name__", "score")
    return Threshold(
        limit, low, high, far, accepted_share(known, limit), tar_low, tar_high, guarantee, mode,
        "similarity" if mode == "pairs" else name, distance, count, len(others),
        accepted_share(others, limit),
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
        if gallery is not None:
            raise OodmlError("--gallery: mode pairs compares the images of one file", "--gallery")
        return score_pairs(vectors, distance, seed)
    if gallery is None:
        return left_out_scores(vectors, score, distance), None
    return gallery_scores(vectors, gallery, score, distance), None


def require_unknown(scored: OpenSetScores, gallery: object = "the gallery") -> None:
    """Refuse scores that are all of known, or all of unknown queries."""
    count, known = len(scored.known), int(scored.known.sum())
    share, lack, add = ("All", "unknown", "other") if known else ("None of the", "known", "its")
    if known in (0, count):
        problem = f"{share} {count} queries have their class in {gallery}, so there are no {lack} "
        remedy = f"Leave out --gallery to withhold classes, or add queries of {add} classes."
        raise OodmlError(f"{problem}queries. {remedy}", "--gallery", known)


def conformal_threshold(
    scores: Float[np.ndarray, " u"], classes: Int[np.ndarray, " u"], far: float
) -> float | None:
    """The threshold with a guaranteed false-accept rate for exchangeable classes, or None.

    Hierarchical conformal prediction (Lee, Barber & Willett 2023): classes have equal weights,
    and so have the images of a class; the new class adds a weight above all scores. An image of a
    new class is then accepted with a probability of at most `far`, over the choice of all classes.
    """
    _, inverse, counts = np.unique(classes, return_inverse=True, return_counts=True)
    rate = far - (1 - far) / len(counts)  # without the weight of the new class
    order = np.argsort(-scores)
    excess = np.cumsum(1 / counts[inverse[order]])
    limit = scores[order[(excess <= rate * excess[-1] + 1e-9).sum()]]
    return None if rate < -1e-12 else float(np.nextafter(limit, np.inf))


def score_pairs(
    vectors: VectorSet, distance: str, seed: int
) -> tuple[OpenSetScores, NDArray[np.int64]]:
    """Similarities of pairs of images, and the class of the second image of each.

    All pairs of fewer than 1,000 images are used, else random ones; see `MAX_PAIRS`.
    """
    rows, labels = as_vectors(vectors.vectors, distance), vectors.labels
    unit = comparable(rows, None, distance).queries
    first, second = np.triu_indices(len(rows), 1) if len(rows) < 1000 else _draw(labels, seed)
    parts = []
    for begin in range(0, len(first), 2**16):
        a, b = (unit[side[begin : begin + 2**16]] for side in (first, second))
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
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    same = generator.choice(np.flatnonzero(sizes[labels] > 1), size=count)
    position = np.empty(n, dtype=np.int64)
    position[order] = np.arange(n) - starts[labels[order]]
    size, start = sizes[labels[same]], starts[labels[same]]
    partner = order[start + (position[same] + generator.integers(1, size)) % size]
    different = labels[first] != labels[second]
    pairs = (first[different], same), (second[different], partner)
    return np.concatenate(pairs[0]), np.concatenate(pairs[1])


def _resamples(
    scored: OpenSetScores, partners: NDArray[np.int64] | None, far: float, resamples: int,
    seed: int, conformal: bool = False,
) -> Iterator[tuple[float, float]]:  # fmt: skip
    """The threshold and the share of accepted known queries (pairs) in each resample of classes."""
    pairs = [scored.classes] if partners is None else [scored.classes, partners]
    numbers = np.unique(np.concatenate(pairs), return_inverse=True)[1]
    classes = numbers.reshape(len(pairs), -1)
    sides = []
    for is_known in (False, True):
        rows = np.flatnonzero(scored.known == is_known)
        rows = rows[np.argsort(-scored.scores[rows], kind="stable")]
        sides.append((scored.scores[rows], classes[:, rows]))
    (others, other_classes), (known, known_classes) = sides
    scale = np.ones(int(numbers.max()) + 1)
    if conformal:  # as in `conformal_threshold`
        counts = np.bincount(other_classes[0], minlength=len(scale))
        scale, far = 1 / counts.clip(1), far - (1 - far) / np.count_nonzero(counts)
    size = max(1, 2**22 // len(scored.scores))
    for draws in class_draws(len(scale), resamples, seed):
        for begin in range(0, len(draws), size):
            weights = draws[begin : begin + size]
            excess, total = (  # a pair counts as often as both of its classes are drawn
                np.cumsum(np.prod([each[:, one] for one in side], axis=0), axis=1)
                for side, each in ((other_classes, weights * scale), (known_classes, weights))
            )
            within = excess <= far * excess[:, -1:] + 1e-9
            limits = others[np.minimum(within.sum(1), len(others) - 1)]
            accepted = np.searchsorted(-known, -limits, side="left")
            shares = np.where(accepted > 0, total[np.arange(len(limits)), accepted - 1], 0.0)
            with np.errstate(invalid="ignore"):
                rates = shares / total[:, -1]
            yield from zip(np.nextafter(limits, np.inf), rates, strict=True)
