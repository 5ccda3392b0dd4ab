"""The structure of an embedding: how its classes lie, whatever their nearest neighbours are."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from oodml.errors import OodmlError
from oodml.evaluate.inputs import Array, as_labels, as_vectors, codes
from oodml.evaluate.thresholds import inconsistency

BLOCK = 1024


def structure_metrics(
    vectors: Array,
    labels: Array,
    *,
    rhos: Iterable[int] = (1, 2, 10, -1),
    false_accept_rates: tuple[float, float] | None = (0.01, 0.1),
) -> dict[str, float]:
    """How classes lie among the unit vectors of vectors [n d] with labels [n].

    - "intra": cosine distance of two images of a class, mean over pairs, then over classes
      (singletons left out); "inter": of two class centroids, mean over pairs; "density": their
      ratio (Roth et al., Revisiting Training Strategies, ICML 2020);
    - "rho@k": spectral decay (ibid.) of the vectors as given, see `spectral_decay`;
    - "alignment": mean squared distance of two images of a class, over all such pairs;
      "uniformity": log of the mean of exp(-2 squared distance) over all pairs of images (Wang
      & Isola, ICML 2020);
    - "opis": how differently classes fare at one threshold, see `thresholds.inconsistency`; left
      out where `false_accept_rates` is None.

    What does not exist is NaN: "inter" of one class, "intra" without a class of two.
    Raises `OodmlError` for vectors that are zero or not finite.
    """
    given = as_vectors(vectors)
    unit = as_vectors(vectors, "cosine")
    _, (groups,) = codes(as_labels(labels, len(unit)))
    classes = torch.from_numpy(groups).to(unit.device)
    metrics = _class_distances(unit, classes)
    spectrum = normalised_spectrum(given)
    metrics |= {f"rho@{k}": spectral_decay(spectrum, k) for k in rhos}
    metrics["uniformity"] = uniformity(unit)
    if false_accept_rates is not None:
        metrics["opis"] = inconsistency(unit, classes, false_accept_rates)
    return metrics


def _class_distances(unit: Float[Tensor, "n d"], classes: Int[Tensor, " n"]) -> dict[str, float]:
    sizes = torch.bincount(classes).double()
    exact = torch.nn.functional.normalize(unit.double(), dim=1)
    sums = exact.new_zeros((len(sizes), unit.shape[1])).index_add_(0, classes, exact)
    # All pairs of a class at once: their dot products sum to the squared sum less the squares,
    # which are 1 each.
    pairs = sizes * (sizes - 1)
    distances = pairs - (sums.square().sum(1) - sizes)
    several = sizes > 1
    intra = float((distances / pairs)[several].mean())
    directions = torch.nn.functional.normalize(sums, dim=1)
    n_classes = len(sizes)
    between = n_classes * (n_classes - 1)
    inner = float(directions.sum(0).square().sum() - directions.square().sum())
    inter = 1 - inner / between if between else float("nan")
    return {
        "intra": intra,
        "inter": inter,
        "density": intra / inter if inter else float("nan"),
        "alignment": 2 * float(distances[several].sum() / pairs[several].sum()),
    }


def normalised_spectrum(vectors: Array) -> NDArray[np.float64]:
    """[min(n, d)] the singular values of vectors [n d], descending, with sum 1.

    From the smaller Gram matrix in float64: n²d or nd², never an n×d decomposition.
    """
    rows = as_vectors(vectors)
    tall = rows.shape[0] >= rows.shape[1]
    gram = rows.new_zeros((min(rows.shape),) * 2, dtype=torch.float64)
    for part in torch.split(rows if tall else rows.T, BLOCK):
        gram += part.T.double() @ part.double()
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
    return np.asarray((values / values.sum().clamp(min=1e-300)).cpu().numpy())


def spectral_decay(spectrum: Float[np.ndarray, " s"], k: int) -> float:
    """KL(uniform ‖ spectrum) of a normalised spectrum, descending: 0 if all directions are used.

    k > 1 leaves out the k-1 largest values, negative k does so and reverses the divergence. NaN
    where nothing is left. Values count as at least 1e-8 of the largest, below which a Gram
    matrix tells noise, so that a direction not used at all counts much, but not infinitely.
    Raises `OodmlError` for k = 0, which stands for the spectrum itself.
    """
    if k == 0:
        raise OodmlError("rho@0 is no number but the spectrum: see `normalised_spectrum`")
    left = np.maximum(spectrum, 1e-8 * spectrum[0])[abs(k) - 1 :]
    if not len(left) or not left[0] > 0:
        return float("nan")
    shares = left / left.sum()
    log_ratio = np.log(shares * len(shares))
    return float((shares * log_ratio).sum() if k < 0 else -log_ratio.mean())


def uniformity(unit: Float[Tensor, "n d"]) -> float:
    """log mean exp(-2 ‖x-y‖²) over the pairs of unit vectors; NaN for one vector."""
    n = len(unit)
    total = sum(float(_half(part).double().sum()) for part in _upper_blocks(unit))
    return float(np.log(total / (n * (n - 1) / 2))) if n > 1 else float("nan")


def _half(scores: Float[Tensor, "b w"]) -> Float[Tensor, " b"]:
    return scores.mul_(4).sub_(4).clamp_(max=0).exp_().sum(1)


def _upper_blocks(unit: Float[Tensor, "n d"]) -> Iterator[Float[Tensor, "b w"]]:
    """Blocks of dot products in which each pair of rows stands once, and minus infinity else."""
    bounds = [*range(0, len(unit), BLOCK), len(unit)]
    for begin, end in pairwise(bounds):
        rows = unit[begin:end]
        own = rows @ rows.T
        yield own.masked_fill_(torch.ones_like(own, dtype=torch.bool).tril(), -torch.inf)
        for left, right in pairwise(bound for bound in bounds if bound >= end):
            yield rows @ unit[left:right].T
