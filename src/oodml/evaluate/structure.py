"""The structure of an embedding: how classes are distributed, independent of neighbors."""

from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from math import inf, nan

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at
from oodml.evaluate.inputs import Array, as_labels, as_vectors, encode_labels, refuse_rows
from oodml.evaluate.metric_family import MetricFamily
from oodml.evaluate.precision import resolved_unit_rows, scale_to_safe_size
from oodml.lazy_torch import Tensor, torch
from oodml.results.metrics import check_bounds

BLOCK = 1024
BINS = 1024
ROUNDING = 1e-13  # cosine distances below this are rounding errors and count as 0
NOISE = 1e-7  # singular values below this share of the largest may be noise of the Gram matrix


class Geometry:
    """Vectors, their classes, and the quantities that several metrics share.

    `unit` [n d] are the vectors scaled to length 1, `classes` [n] integers from 0, and
    `class_sizes` [c] in float64.
    """

    def __init__(
        self, vectors: Array, labels: Array, false_accept_rates: tuple[float, float] = (0.01, 0.1)
    ) -> None:
        self.given = as_vectors(vectors)
        reason = "is zero and has no direction; `--retrieval-only` skips structure metrics"
        refuse_rows(~self.given.any(1), "vectors", reason)
        self.unit = resolved_unit_rows(self.given)
        _, (classes,) = encode_labels(as_labels(labels, len(self.unit)))
        self.classes = torch.from_numpy(classes).to(self.unit.device)
        self.class_sizes = torch.bincount(self.classes).double()
        self.false_accept_rates = false_accept_rates

    @cached_property
    def spectrum(self) -> Float[np.ndarray, " s"]:
        """The normalized singular values of the vectors as given."""
        return normalized_spectrum(self.given)

    @cached_property
    def class_sums(self) -> Float[Tensor, "c d"]:
        """The sum of the unit vectors of each class, in float64."""
        exact = torch.nn.functional.normalize(self.unit.double(), dim=1)
        shape = (len(self.class_sizes), exact.shape[1])
        return exact.new_zeros(shape).index_add_(0, self.classes, exact)

    @property
    def class_pairs(self) -> Float[Tensor, " c"]:
        """The number of ordered pairs of different images in each class."""
        return self.class_sizes * (self.class_sizes - 1)

    @cached_property
    def distance_sums(self) -> Float[Tensor, " c"]:
        """The cosine distances of all ordered pairs of a class, summed, from the sum's norm."""
        distances = self.class_pairs - (self.class_sums.square().sum(1) - self.class_sizes)
        return torch.where(distances > ROUNDING * self.class_pairs, distances, 0.0)


STRUCTURE = MetricFamily("structure")


@STRUCTURE.define("intra", "Intra-class distance", bounds=(0, 2), higher_is_better=None)
def intra(geometry: Geometry) -> float:
    """The cosine distance of two images of a class, averaged over pairs, then over classes."""
    several = geometry.class_sizes > 1
    return float((geometry.distance_sums / geometry.class_pairs)[several].mean())


@STRUCTURE.define("inter", "Inter-class distance", bounds=(0, 2), higher_is_better=None)
def inter(geometry: Geometry) -> float:
    """The cosine distance of two class centroids, averaged over pairs of classes."""
    directions = torch.nn.functional.normalize(geometry.class_sums, dim=1)
    n_classes = len(geometry.class_sizes)
    pairs = n_classes * (n_classes - 1)
    products = float(directions.sum(0).square().sum() - directions.square().sum())
    distance = 1 - products / pairs if pairs else nan
    return 0.0 if distance < ROUNDING else distance


@STRUCTURE.define("density", "Density", bounds=(0, inf), higher_is_better=None)
def density(geometry: Geometry) -> float:
    """The ratio of "intra" to "inter" (Roth et al., ICML 2020); NaN if "inter" is 0."""
    between = inter(geometry)
    return intra(geometry) / between if between else nan


@STRUCTURE.define("alignment", "Alignment", bounds=(0, 4), higher_is_better=False)
def alignment(geometry: Geometry) -> float:
    """The mean squared distance of two images of a class, over all pairs (Wang & Isola, 2020)."""
    several = geometry.class_sizes > 1
    distances = geometry.distance_sums[several].sum()
    return 2 * float(distances / geometry.class_pairs[several].sum())


@STRUCTURE.define("rho@k", "Spectral decay ρ@k", bounds=(0, inf), higher_is_better=None)
def rho(geometry: Geometry, k: int) -> float:
    """Spectral decay (Roth et al., ICML 2020); see `spectral_decay`."""
    return spectral_decay(geometry.spectrum, k)


@STRUCTURE.define("uniformity", "Uniformity", bounds=(-8, 0), higher_is_better=False)
def uniformity(geometry: Geometry) -> float:
    """log mean exp(-2 ‖x-y‖²) over all pairs (Wang & Isola, ICML 2020); NaN for one vector."""
    n, unit, total = len(geometry.unit), geometry.unit, 0.0
    bounds = [*range(0, n, BLOCK), n]

    def add(scores: Tensor) -> float:
        return float(scores.mul_(4).sub_(4).clamp_(max=0).exp_().sum(1).double().sum())

    for begin, end in pairwise(bounds):  # each pair once
        rows = unit[begin:end]
        square = rows @ rows.T
        every = torch.ones_like(square, dtype=torch.bool)
        total += add(square.masked_fill_(every.tril(), -torch.inf))
        for left, right in pairwise(bound for bound in bounds if bound >= end):
            total += add(rows @ unit[left:right].T)
    value = float(np.log(total / (n * (n - 1) / 2))) if n > 1 else nan
    return 0.0 if abs(value) < 1e-6 else value  # float32 cosines of equal directions round


@STRUCTURE.define("opis", "OPIS", bounds=(0, 0.25), higher_is_better=False)
def opis(geometry: Geometry) -> float:
    """How much the accuracy of classes differs at one threshold (Zhang et al., ICLR 2024)."""
    rates = geometry.false_accept_rates
    return operating_point_inconsistency(geometry.unit, geometry.classes, rates)


def structure_metrics(
    vectors: Array,
    labels: Array,
    *,
    rhos: Iterable[int] = (1, 2, 10, -1),
    false_accept_rates: tuple[float, float] | None = (0.01, 0.1),
) -> dict[str, float]:
    """Compute metrics of how classes are distributed in an embedding.

    "intra", "inter", "density", and the spectral decay "rho@k" are those of Roth et al. (ICML
    2020), "alignment" and "uniformity" those of Wang & Isola (ICML 2020), and "opis" that of Zhang
    et al. (ICLR 2024). All but "rho@k" use unit vectors.

    Args:
        vectors, labels: [n d], and [n] integers or strings.
        rhos: the numbers k of "rho@k".
        false_accept_rates: the range of false-accept rates for "opis"; None leaves it out.

    Returns:
        The metrics. "inter" of one class and "intra" if no class has two images are NaN. If all
        vectors have one direction, all but "density", which is NaN, are 0.

    Raises:
        OodmlError: if vectors are zero or not finite, or if shapes do not match.
    """
    geometry = Geometry(vectors, labels, false_accept_rates or (0.01, 0.1))
    functions = STRUCTURE.functions(rhos)
    if false_accept_rates is None:
        del functions["opis"]
    return {name: check_bounds(name, function(geometry)) for name, function in functions.items()}


def normalized_spectrum(vectors: Array) -> NDArray[np.float64]:
    """[min(n, d)] the singular values of vectors [n d], normalized to sum 1, descending.

    They come from the smaller Gram matrix in float64, which costs n²d or nd² operations.
    """
    rows, _ = scale_to_safe_size(as_vectors(vectors), None)
    is_tall = rows.shape[0] >= rows.shape[1]
    gram = rows.new_zeros((min(rows.shape),) * 2, dtype=torch.float64)
    for part in torch.split(rows if is_tall else rows.T, BLOCK):
        gram += part.T.double() @ part.double()
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
    return np.asarray((values / values.sum().clamp(min=1e-300)).cpu().numpy())


def spectral_decay(spectrum: Float[np.ndarray, " s"], k: int) -> float:
    """KL(uniform ‖ spectrum) of a normalized spectrum: 0 if all directions are used equally.

    Args:
        spectrum: normalized singular values, in descending order. Values below 1e-8 of the
            largest are raised to that, because a Gram matrix cannot resolve them.
        k: k > 1 excludes the k-1 largest values; a negative k excludes |k|-1 and reverses the
            divergence. NaN if no value remains that a Gram matrix can distinguish from 0.
    """
    if k == 0:
        problem = "rho@0 is the spectrum, not a number; use `normalized_spectrum`"
        raise OodmlError(problem, "rhos", 0)
    values = np.maximum(spectrum, 1e-8 * spectrum[0])[abs(k) - 1 :]
    if not len(values) or not values[0] > NOISE * spectrum[0]:
        return nan
    shares = values / values.sum()
    log_ratio = np.log(shares * len(shares))
    return float((shares * log_ratio).sum() if k < 0 else -log_ratio.mean())


def operating_point_inconsistency(
    unit: Float[Tensor, "n d"],
    classes: Int[Tensor, " n"],
    false_accept_rates: tuple[float, float] = (0.01, 0.1),
) -> float:
    """OPIS, the operating-point inconsistency score (Zhang et al., ICLR 2024); 0 is the best.

    Two images are accepted as one class if their cosine reaches a threshold. The utility of a
    class at a threshold is the harmonic mean of the share of its own pairs that are accepted and
    the share of its pairs with other classes that are rejected. The score is the variance of
    utility over classes, averaged over the thresholds at which the false-accept rate of all pairs
    is in the given range; NaN if fewer than two classes have pairs of both kinds. Thresholds are
    cosines in 1024 steps of 1/512. The paper uses distances, so values are comparable only with
    each other. `unit` are unit vectors, `classes` integers from 0.
    """
    low, high = false_accept_rates
    if not 0 < low < high < 1:
        problem = f"{false_accept_rates}; allowed: 0 < low < high < 1"
        raise error_at("false_accept_rates", problem, false_accept_rates)
    own, other = _pair_histograms(unit, classes)
    has_both = (own.sum(1) > 0) & (other.sum(1) > 0)
    if has_both.sum() < 2:
        return nan
    false_accepts = _accepted_share(other.sum(0, keepdim=True))[0]
    inside = (false_accepts >= low) & (false_accepts <= high)
    if not inside.any():  # too few distinct cosines: use the threshold with the nearest rate
        inside[(false_accepts - (low * high) ** 0.5).abs().argmin()] = True
    accepted, rejected = _accepted_share(own[has_both]), 1 - _accepted_share(other[has_both])
    utility = 2 * accepted * rejected / (accepted + rejected).clamp(min=1e-12)
    return float(utility[:, inside].var(0, correction=0).mean())


def _accepted_share(counts: Int[Tensor, "c bins"]) -> Float[Tensor, "c bins"]:
    """The share of a row's pairs that reach the lower end of each bin."""
    reaching = counts.flip(1).cumsum(1).flip(1).double()
    return reaching / reaching[:, :1]


def _pair_histograms(
    unit: Float[Tensor, "n d"], classes: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "c bins"], Int[Tensor, "c bins"]]:
    """For each class, the cosines of its own pairs and of its pairs with others, in bins."""
    n_classes = int(classes.max()) + 1
    shape = (n_classes, BINS)
    total = torch.zeros(n_classes * BINS, dtype=torch.int64, device=unit.device)
    own = torch.zeros_like(total)
    for begin in range(0, len(unit), BLOCK // 2):
        rows = slice(begin, begin + BLOCK // 2)
        bins = (unit[rows] @ unit.T).add_(1).mul_(BINS / 2).long().clamp_(0, BINS - 1)
        bins += classes[rows, None] * BINS
        diagonal = torch.bincount(bins.diagonal(begin), minlength=len(own))
        total += torch.bincount(bins.flatten(), minlength=len(own)) - diagonal
        own += torch.bincount(bins[classes[rows, None] == classes], minlength=len(own)) - diagonal
    return own.view(shape), (total - own).view(shape)
