import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress, t

from oodml.analysis.lines import fit_lines

X = np.array([1.0, 2.0, 5.0, 9.0, 11.0])
Y = np.array([[0.8, 0.7, 0.62, 0.4, 0.42], [0.9, 0.9, 0.8, 0.7, 0.72]])
ALONE = np.arange(5)


def test_own_lines_are_those_of_least_squares_with_their_prediction_interval() -> None:
    found = fit_lines(X, Y, ALONE)
    at = np.array([7.0])
    for row, y in enumerate(Y):
        line = linregress(X, y)
        assert found.expected(at)[row, 0] == pytest.approx(line.intercept + 7 * line.slope)
        rest = y - line.intercept - line.slope * X
        error = np.sqrt(
            (rest**2).sum() / 3 * (1 + 1 / 5 + (7 - X.mean()) ** 2 / (4 * X.var(ddof=1)))
        )
        assert found.half_width(at, 0.8)[row, 0] == pytest.approx(t.ppf(0.9, 3) * error)


def test_common_lines_share_slope_and_scatter_at_their_own_heights() -> None:
    found = fit_lines(X, Y, ALONE, "common")
    centered = Y - Y.mean(axis=1, keepdims=True)
    joined = linregress(np.tile(X - X.mean(), 2), centered.ravel())
    assert found.slope == pytest.approx([joined.slope] * 2)
    assert found.level == pytest.approx(Y.mean(axis=1))
    rest = centered - joined.slope * (X - X.mean())
    assert found.scale == pytest.approx([np.sqrt((rest**2).sum() / 2 / 3)] * 2)
    assert found.freedom.tolist() == [3, 3]


def test_flat_lines_are_the_mean_and_its_prediction_interval() -> None:
    found = fit_lines(X, Y, ALONE, "flat")
    at = np.array([0.0, 50.0])
    assert found.expected(at) == pytest.approx(np.repeat(Y.mean(axis=1)[:, None], 2, axis=1))
    half = t.ppf(0.975, 4) * Y.std(axis=1, ddof=1) * np.sqrt(1 + 1 / 5)
    assert found.half_width(at, 0.95)[:, 1] == pytest.approx(half)


@given(st.lists(st.integers(1, 4), min_size=5, max_size=5))
@settings(max_examples=25, deadline=None)
def test_repeating_the_points_of_a_group_changes_nothing(times: list[int]) -> None:
    groups = np.repeat(ALONE, times)
    found = fit_lines(X[groups], Y[:, groups], groups)
    once = fit_lines(X, Y, ALONE)
    for one, other in zip(found, once, strict=True):
        assert one == pytest.approx(other)


def test_a_missing_value_is_left_out_for_its_method_alone() -> None:
    holes = Y.copy()
    holes[0, 2] = np.nan
    found, rest = fit_lines(X, holes, ALONE), ALONE[[0, 1, 3, 4]]
    assert found.slope[0] == pytest.approx(linregress(X[rest], Y[0, rest]).slope)
    assert found.slope[1] == pytest.approx(linregress(X, Y[1]).slope)
    assert found.freedom.tolist() == [2, 3]


def test_two_points_have_no_interval() -> None:
    found = fit_lines(X[:2], Y[:, :2], ALONE[:2])
    assert np.isnan(found.half_width(np.array([3.0]), 0.8)).all()
