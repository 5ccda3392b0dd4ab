"""Drift: whether new, unlabeled vectors are distributed like those of an index."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.evaluate.inputs import as_vectors, check_seed
from oodml.evaluate.precision import resolved_unit_rows
from oodml.shift.columns import connect
from oodml.vectors import VectorSet

MAX_IMAGES = 1000  # images per side of the test; more are sampled
SIGNIFICANT = 0.05
UNUSUAL = 0.005  # the share of the index's images that are farther from their nearest neighbor
MIN_CLUSTER = 3


@dataclass(frozen=True)
class Drift:
    """How far new vectors are from an index."""

    value: float
    """The squared maximum mean discrepancy (MMD), relative to its 95% quantile under random
    assignment of the images to the two sides: above 1, it is farther than chance."""
    p: float  # the permutation level
    clusters: tuple[tuple[str, ...], ...]
    """The ids of the images of each new cluster, largest first: images that are farther from the
    index than 99.5% of its own images are from each other, in groups of three or more, closer to
    each other."""
    change: tuple[float, float, float] | None = None
    """The expected change of Recall@1 from the index, and its 80% interval."""

    @property
    def verdict(self) -> str:
        """The answer in words."""
        return "farther than chance" if self.p <= SIGNIFICANT else "no drift detected"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"drift": self.value, "p": self.p, "clusters": [*map(list, self.clusters)]}
        return values | ({} if self.change is None else {"recall_change": [*self.change]})


def drift(index: VectorSet, new: VectorSet, seed: int = 0, permutations: int = 999) -> Drift:
    """Test whether new vectors are distributed like those of an index, and find new clusters.

    The test compares at most 1,000 random images per side by MMD (Gretton et al., JMLR 2012) with
    a Gaussian kernel on unit vectors, whose width is the median distance. Images are permuted, so
    batches of similar images count as drift, too.

    Args:
        index, new: vectors [n d] and [m d] of one network; classes are not used.
        seed, permutations: random seed, and the number of random assignments for the level.

    Raises:
        OodmlError: if the widths differ, or a side has fewer than 8 images.
    """
    check_seed(seed)
    sides = [resolved_unit_rows(as_vectors(one.vectors, "cosine")).numpy() for one in (index, new)]
    shapes = sides[0].shape, sides[1].shape
    if shapes[0][1] != shapes[1][1] or min(map(len, sides)) < 8:
        problem = "drift needs two sides of at least 8 vectors of the same width"
        raise OodmlError(f"{problem}; given {shapes[0]} and {shapes[1]}", given=shapes)
    generator = np.random.default_rng(seed)
    samples = [one[generator.permutation(len(one))[:MAX_IMAGES]] for one in sides]
    observed, permuted = mmd_permutations(samples[0], samples[1], permutations, generator)
    p = (1 + int((permuted >= observed).sum())) / (1 + permutations)
    scale = float(np.quantile(permuted, 1 - SIGNIFICANT))
    clusters = tuple(tuple(new.ids[rows].tolist()) for rows in _new_clusters(*sides))
    return Drift(observed / scale if scale > 0 else float("nan"), p, clusters)


def mmd_permutations(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    permutations: int,
    generator: np.random.Generator,
) -> tuple[float, Float[np.ndarray, " p"]]:
    """The squared MMD (biased estimate) of two sets, and its value for random assignments."""
    rows = np.concatenate([a, b]).astype(np.float64)
    squares = np.clip(2 - 2 * rows @ rows.T, 0, None)
    width = float(np.median(squares[np.triu_indices(len(rows), 1)]))
    kernel = np.exp(-squares / (width or 1.0))
    weights = np.repeat([1 / len(a), -1 / len(b)], [len(a), len(b)])
    drawn = generator.permuted(np.tile(weights, (permutations, 1)), axis=1)
    return float(weights @ kernel @ weights), np.einsum("pn,pn->p", drawn @ kernel, drawn)


def _new_clusters(
    index: Float[np.ndarray, "n d"], new: Float[np.ndarray, "m d"]
) -> list[NDArray[np.int64]]:
    """The rows of each group of new unit vectors that are unusually far from the index."""
    limit = float(np.quantile(_nearest(index, index, True), UNUSUAL))
    far = np.flatnonzero(_nearest(new, index, False) < limit)
    if not len(far):
        return []
    pairs = []
    for begin in range(0, len(far), 512):
        near = np.argwhere(new[far[begin : begin + 512]] @ new[far].T >= limit)
        pairs.append(near + np.array([begin, 0]))
    labels = connect(np.concatenate(pairs), len(far))
    groups = [far[labels == label] for label in np.unique(labels)]
    return sorted((g for g in groups if len(g) >= MIN_CLUSTER), key=len, reverse=True)


def _nearest(
    rows: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"], same: bool
) -> Float[np.ndarray, " n"]:
    parts = []
    for begin in range(0, len(rows), 512):
        similarity = rows[begin : begin + 512] @ others.T
        if same:
            np.fill_diagonal(similarity[:, begin:], -np.inf)
        parts.append(similarity.max(1))
    return np.concatenate(parts)
