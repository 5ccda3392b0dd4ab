"""The Fréchet distance between two sets of vectors ("FID", Heusel et al. 2017), in closed form."""

import numpy as np
import scipy.linalg
from jaxtyping import Float, Num
from numpy.typing import NDArray

from oodml.errors import OodmlError
from oodml.shift.threads import limit_threads

Matrix = NDArray[np.float64]

# Below this ratio of the smallest to the largest pivot, the symmetric eigenvalue form, which
# squares the singular values, would lose too many digits.
_WELL_CONDITIONED = 1e-5


def frechet_distance(a: Num[np.ndarray, "n d"], b: Num[np.ndarray, "m e"]) -> float:
    """The Fréchet distance ‖μ₁−μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, covariances with n−1.

    Computed in float64 from singular values, without a matrix root and without the 1e-8·I that
    implementations with `sqrtm` add.

    Args:
        a, b: [n d], [m d] two sets of vectors.

    Returns:
        The distance, in squared units of the vectors; at least 0.

    Raises:
        OodmlError: if a set has fewer than two rows or values that are not finite, or if the
            widths differ.
    """
    first, second = as_sets(a, b)
    offset = first.mean(axis=0) - second.mean(axis=0)
    a_rows, b_rows = _scaled(first), _scaled(second)
    spread = np.sum(a_rows**2) + np.sum(b_rows**2)
    if min(len(first), len(second)) > first.shape[1]:
        root = trace_of_root(a_rows.T @ a_rows, b_rows.T @ b_rows)
    else:
        root = nuclear_norm(_compact(a_rows) @ _compact(b_rows).T)
    return max(0.0, float(offset @ offset + spread - 2 * root))


def as_sets(a: Num[np.ndarray, "n d"], b: Num[np.ndarray, "m e"]) -> tuple[Matrix, Matrix]:
    """Convert both sets to float64."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, rows in (("first", first), ("second", second)):
        if len(rows) < 2:
            problem = f"the {name} set has {len(rows)} rows; a covariance needs at least 2"
            raise OodmlError(problem, f"{name} set", len(rows))
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            problem = f"row {bad[0]} of the {name} set is not finite ({len(bad)} such rows)"
            raise OodmlError(problem, location=f"row {bad[0]} of the {name} set")
    if first.shape[1] != second.shape[1]:
        raise OodmlError(
            f"the sets have {first.shape[1]} and {second.shape[1]} dimensions; they must be equal",
            given=(first.shape[1], second.shape[1]),
        )
    return first, second


def nuclear_norm(matrix: Float[np.ndarray, "n m"]) -> float:
    """The sum of the singular values."""
    with limit_threads(min(matrix.shape)):
        return float(np.linalg.svd(matrix, compute_uv=False).sum())


def trace_of_root(sigma1: Float[np.ndarray, "d d"], sigma2: Float[np.ndarray, "d d"]) -> float:
    """tr (Σ₁Σ₂)^½ of two covariances.

    With Σ₁ = LLᵀ, the eigenvalues of Σ₁Σ₂ are those of the symmetric LᵀΣ₂L. If either covariance
    is nearly singular, this is the sum of the singular values of F₁ᵀF₂ with Σ = FFᵀ instead,
    which avoids squaring them.
    """
    lower = _cholesky(sigma1)
    if lower is None or _cholesky(sigma2) is None:
        return nuclear_norm(_factor(sigma1).T @ _factor(sigma2))
    eigenvalues = scipy.linalg.eigvalsh(lower.T @ sigma2 @ lower, check_finite=False)
    return float(np.sqrt(np.clip(eigenvalues, 0, None)).sum())


def _scaled(rows: Matrix) -> Matrix:
    centered = rows - rows.mean(axis=0)
    return np.asarray(centered / np.sqrt(len(rows) - 1))


def _compact(rows: Matrix) -> Matrix:
    """A matrix of at most d rows with the same RᵀR."""
    return rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))


def _cholesky(sigma: Matrix) -> Matrix | None:
    try:
        lower: Matrix = np.asarray(np.linalg.cholesky(sigma), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    pivots = np.diagonal(lower) ** 2
    return lower if pivots.min() > _WELL_CONDITIONED * pivots.max() else None


def _factor(sigma: Matrix) -> Matrix:
    eigenvalues, vectors = np.linalg.eigh(sigma)
    noise = len(sigma) * np.finfo(np.float64).eps * max(eigenvalues[-1], 0.0)
    positive = eigenvalues > noise
    return np.asarray(vectors[:, positive] * np.sqrt(eigenvalues[positive]))
