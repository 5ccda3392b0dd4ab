from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from oodml import OodmlError, frechet_distance
from oodml.shift.distances import trace_of_root


def by_matrix_root(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook formula, for covariances of full rank."""
    sigma = [np.cov(rows, rowvar=False) for rows in (a, b)]
    root = scipy.linalg.sqrtm(sigma[0] @ sigma[1]).real
    offset = a.mean(axis=0) - b.mean(axis=0)
    return float(offset @ offset + np.trace(sigma[0] + sigma[1] - 2 * root))


@pytest.mark.parametrize("sizes", [(40, 60), (8, 60), (60, 8), (5, 7)])
def test_equals_the_definition(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=(n, 10)) @ generator.normal(size=(10, 10)) for n in sizes)
    if min(sizes) > 10:
        assert frechet_distance(a, b) == pytest.approx(by_matrix_root(a, b), rel=1e-9)
    eigenvalues = np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real
    root = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    offset = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    expected = offset + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_equals_the_exact_reference(reference: Path) -> None:
    cases = np.load(reference / "fid_cases.npz")
    for i, (original, exact) in enumerate(cases["values"]):
        result = frechet_distance(cases[f"case{i}_a"], cases[f"case{i}_b"])
        assert result == pytest.approx(exact, rel=1e-9)
        assert result == pytest.approx(original, rel=1e-3)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 12), st.integers(0, 1000))
def test_is_symmetric_zero_for_itself_and_unchanged_by_rotation(
    n: int, m: int, d: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(n, d)), generator.normal(size=(m, d)) + 1
    distance = frechet_distance(a, b)
    scale = np.square(a).sum() + np.square(b).sum()
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-9, abs=1e-12 * scale)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12 * scale)
    rotation = ortho_group.rvs(d, random_state=seed) if d > 1 else -np.eye(1)
    turned = frechet_distance(a @ rotation, b @ rotation)
    assert turned == pytest.approx(distance, rel=1e-9, abs=1e-12 * scale)


def test_dimensions_that_never_vary_cost_no_digits() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(50, 6)), generator.normal(size=(60, 6))
    padded = [np.concatenate([rows, np.full((len(rows), 9), 3.0)], axis=1) for rows in (a, b)]
    assert frechet_distance(*padded) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_trace_of_root_of_one_matrix_is_its_trace() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 4))
    sigma = rows.T @ rows
    assert trace_of_root(sigma, sigma) == pytest.approx(np.trace(sigma), rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "first set"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "dimensions"),
        (np.zeros((4, 3)), np.full((4, 3), np.nan), "row 0 of the second set"),
    ],
)
def test_bad_sets_are_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(OodmlError, match=message):
        frechet_distance(a, b)
