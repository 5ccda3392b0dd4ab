"""The FID after every possible swap of one train and one test class, computed together.

With A, B the centered class means of the two sides, M = A Bᵀ, and δ the difference of the classes,
a swap adds a matrix of rank two to M:  M' = M + P Qᵀ,  P = [hᵢ, Aδ],  Q = [Bδ − |δ|²hⱼ, −hⱼ],
hᵢ a centered unit vector. The change of the sum of singular values is an integral of 4×4
determinants,

    ‖M'‖ − ‖M‖ = 1/π ∫₀^∞ log det [[I + Tᵀ, −y QᵀEQ], [y PᵀFP, I + T]] dy,
    F = (MMᵀ + y²)⁻¹,  E = (MᵀM + y²)⁻¹,  T = PᵀMEQ,

since ∫₀^∞ log (s'² + y²)/(s² + y²) dy = π (s' − s). In log y the integrand is analytic in a strip
of width π, so the trapezoid rule with step h has an error of about exp(−π²/h), and a few dozen
points suffice. All swaps share the points: a grid of n×m swaps costs n×m small determinants per
point instead of n×m singular value decompositions.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from oodml.shift.distances import Matrix, Positions, center_block, limit_threads

_STEP = 0.8
_BEYOND = 20.0
_RANK = 1e-9


def swap_shifts(
    gram: Float[np.ndarray, "c c"], train: Positions, test: Positions
) -> Float[np.ndarray, "n m"]:
    """FID of the class means after swapping train class i and test class j, for every i and j.

    Returns:
        FIDs, accurate to about 1e-5 of their scale.
    """
    with limit_threads(min(len(train), len(test))):
        parts = _Parts(gram, train, test)
        nuclear = parts.nuclear + _nuclear_changes(parts)
    scale = np.sqrt((len(train) - 1) * (len(test) - 1))
    return np.asarray(_means_and_variances(gram, train, test) - 2 * nuclear / scale)


def _means_and_variances(gram: Matrix, train: Positions, test: Positions) -> Matrix:
    """The terms of the FID other than the singular values, after each swap: [n m]."""
    n, m = len(train), len(test)
    block = gram[np.ix_(train, test)]
    a, b = gram[train, train][:, None], gram[test, test][None, :]
    own_a = gram[np.ix_(train, train)].sum(axis=1)[:, None]
    own_b = gram[np.ix_(test, test)].sum(axis=0)[None, :]
    other_a, other_b = block.sum(axis=1)[:, None], block.sum(axis=0)[None, :]
    difference = a + b - 2 * block
    sums = own_a.sum() + difference - 2 * own_a + 2 * other_b
    sums_test = own_b.sum() + difference - 2 * own_b + 2 * other_a
    across = block.sum() - other_b + own_a - other_a + own_b - difference
    norms, norms_test = a.sum() - a + b, b.sum() - b + a
    offset = sums / n**2 + sums_test / m**2 - 2 * across / (n * m)
    spread = (norms - sums / n) / (n - 1) + (norms_test - sums_test / m) / (m - 1)
    return np.asarray(offset + spread)


class _Parts:
    """M before the swap and the components of P and Q, in the basis of M's singular vectors."""

    def __init__(self, gram: Matrix, train: Positions, test: Positions) -> None:
        block = gram[np.ix_(train, test)]
        u, s, vt = np.linalg.svd(center_block(block), full_matrices=True)
        n, m = block.shape
        self.nuclear = float(s.sum())
        self.scale = float(s[0])
        # Rounding turns zero singular values of a rank-deficient block into small ones.
        self.least = float(s[s > _RANK * s[0]][-1])
        self.s, self.s_train, self.s_test = s, _padded(s, n), _padded(s, m)
        self.h_train, self.h_test = _centered(u).T, _centered(vt.T).T
        self.to_train = u.T @ _centered(gram[train])
        self.to_test = vt @ _centered(gram[test])
        self.train, self.test = train, test
        norms = np.diagonal(gram)
        self.squares = norms[train][:, None] + norms[test][None, :] - 2 * block


def _nuclear_changes(parts: _Parts) -> Matrix:
    low = np.log(parts.least) - np.log(_BEYOND)
    count = int(np.ceil((np.log(parts.scale) + np.log(_BEYOND) - low) / _STEP)) + 1
    change = np.zeros_like(parts.squares)
    for k in range(count):
        y = float(np.exp(low + k * _STEP))
        # Outside this range the integrand is constant or 1/y², so the tails are geometric series.
        ends = (1 / np.expm1(_STEP)) * ((k == 0) + (k == count - 1))
        change += _STEP * y * (1 + ends) * _log_determinant(parts, y)
    return np.asarray(change / np.pi)


def _log_determinant(parts: _Parts, y: float) -> Matrix:
    p, q, t = _forms(parts, y)
    top = (
        (1 + t[0][0], t[1][0], -y * q[0], -y * q[1]),
        (t[0][1], 1 + t[1][1], -y * q[1], -y * q[2]),
    )
    bottom = (
        (y * p[0], y * p[1], 1 + t[0][0], t[0][1]),
        (y * p[1], y * p[2], t[1][0], 1 + t[1][1]),
    )
    determinant = np.zeros_like(parts.squares)
    for i, j, k, m, sign in _LAPLACE:
        determinant += (
            sign
            * (top[0][i] * top[1][j] - top[0][j] * top[1][i])
            * (bottom[0][k] * bottom[1][m] - bottom[0][m] * bottom[1][k])
        )
    return np.asarray(np.log(np.maximum(determinant, np.finfo(np.float64).tiny)))


_LAPLACE = (
    (0, 1, 2, 3, 1),
    (0, 2, 1, 3, -1),
    (0, 3, 1, 2, 1),
    (1, 2, 0, 3, 1),
    (1, 3, 0, 2, -1),
    (2, 3, 0, 1, 1),
)
Forms = tuple[Matrix, Matrix, Matrix]


def _forms(parts: _Parts, y: float) -> tuple[Forms, Forms, list[list[Matrix]]]:
    """PᵀFP and QᵀEQ (three entries each, symmetric) and T = PᵀMEQ of every swap."""
    f, e = 1 / (parts.s_train**2 + y**2), 1 / (parts.s_test**2 + y**2)
    rank = len(parts.s)
    g = parts.s / (parts.s**2 + y**2)
    d2 = parts.squares
    h_p, h_q, a, b = parts.h_train, parts.h_test, parts.to_train, parts.to_test
    left, right = parts.train, parts.test
    fa, eb = f[:, None] * a, e[:, None] * b

    h_f_h = np.einsum("kn,k,kn->n", h_p, f, h_p)[:, None]
    h_e_h = np.einsum("km,k,km->m", h_q, e, h_q)[None, :]
    h_f_a = h_p.T @ fa
    p12 = h_f_a[:, right] - np.diagonal(h_f_a[:, left])[:, None]
    p = (np.broadcast_to(h_f_h, d2.shape), p12, _squares(a, fa, left, right))

    h_e_b = h_q.T @ eb
    along = np.diagonal(h_e_b[:, right])[None, :] - h_e_b[:, left].T
    q11 = _squares(b, eb, left, right) - 2 * d2 * along + d2**2 * h_e_h
    q = (q11, d2 * h_e_h - along, np.broadcast_to(h_e_h, d2.shape))

    h_g_h = h_p[:rank].T @ (g[:, None] * h_q[:rank])
    h_g_b = h_p[:rank].T @ (g[:, None] * b[:rank])
    a_g_h = a[:rank].T @ (g[:, None] * h_q[:rank])
    a_g_b = a[:rank].T @ (g[:, None] * b[:rank])
    row = h_g_b[:, right] - np.diagonal(h_g_b[:, left])[:, None]
    column = np.diagonal(a_g_h[right])[None, :] - a_g_h[left]
    both = _differences(a_g_b, left, right)
    t = [[row - d2 * h_g_h, -h_g_h], [both - d2 * column, -column]]
    return p, q, t


def _squares(x: Matrix, fx: Matrix, left: Positions, right: Positions) -> Matrix:
    norms = np.einsum("kc,kc->c", x, fx)
    return np.asarray(
        norms[left][:, None] + norms[right][None, :] - 2 * (x[:, left].T @ fx[:, right])
    )


def _differences(form: Matrix, left: Positions, right: Positions) -> Matrix:
    """(x_b − x_a)ᵀ form (x_b − x_a) for every a of `left` and b of `right`."""
    diagonal = np.diagonal(form)
    across = form[np.ix_(left, right)] + form[np.ix_(right, left)].T
    return np.asarray(diagonal[left][:, None] + diagonal[right][None, :] - across)


def _centered(matrix: Matrix) -> Matrix:
    return np.asarray(matrix - matrix.mean(axis=0))


def _padded(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.concatenate([values, np.zeros(size - len(values))])
