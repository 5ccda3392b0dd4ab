import numpy as np
import pytest
from scipy.stats import ttest_1samp

from oodml.analysis.intervals import (
    ags_interval,
    bootstrap_interval,
    probability_positive,
    student_interval,
)
from oodml.errors import OodmlError


def test_student_interval_is_that_of_the_t_test() -> None:
    values = np.random.default_rng(0).normal(3, 2, 7)
    result = student_interval(values)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert result == pytest.approx((values.mean(), low, high, 7))


def test_one_value_has_no_interval() -> None:
    result = student_interval([0.5])
    assert (result.mean, result.n) == (0.5, 1)
    assert np.isnan([result.low, result.high]).all()


@pytest.mark.parametrize("values", [[0.0417, 0.0417], [0.7 - 0.66, 0.04], [0.0, 0.0, 0.0]])
def test_equal_values_have_no_interval(values: list[float]) -> None:
    interval = student_interval(values)
    assert (interval.mean, interval.n) == (pytest.approx(values[0]), len(values))
    assert np.isnan([interval.low, interval.high]).all()


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [[1.0, 2.0]]])
def test_no_numbers_is_an_error(values: list[float]) -> None:
    with pytest.raises(OodmlError, match="finite numbers"):
        student_interval(values)


def test_probability_positive_is_one_minus_the_p_value() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, 6)
    expected = 1 - ttest_1samp(values, 0, alternative="greater").pvalue
    assert probability_positive(values) == pytest.approx(expected)


def test_probability_positive_at_its_ends() -> None:
    assert np.isnan(probability_positive([1.0, 1.0]))
    assert probability_positive([0.0, 0.0]) == 0.5
    assert np.isnan(probability_positive([1.0]))


@pytest.mark.parametrize("shared", [0.0, 0.8])
@pytest.mark.parametrize("seeds", [3, 10])
def test_ags_interval_covers_the_truth(seeds: int, shared: float) -> None:
    """1000 draws of seeds whose splits err together by `shared`: 92-98% cover the true AGS."""
    generator = np.random.default_rng(int(10 * shared) + seeds)
    shift = np.array([5.0, 9.0, 30.0, 80.0, 100.0])
    truth = np.array([0.8, 0.78, 0.7, 0.55, 0.5])
    area = np.trapezoid(truth, (shift - 5) / 95)
    covered = 0
    for _ in range(1000):
        own = generator.normal(0, 1, (seeds, 5)) * np.sqrt(1 - shared)
        common = generator.normal(0, 1, (seeds, 1)) * np.sqrt(shared)
        result = ags_interval(shift, truth + 0.01 * (own + common))
        covered += result.low <= area <= result.high
    assert 920 <= covered <= 980


def test_ags_interval_leaves_out_incomplete_seeds() -> None:
    values = np.array([[1.0, 0.0], [0.8, 0.0], [0.5, np.nan]])
    result = ags_interval([0.0, 1.0], values)
    assert (result.mean, result.n) == (pytest.approx(0.45), 2)


def test_ags_without_a_complete_seed_has_no_interval() -> None:
    result = ags_interval([0.0, 1.0], np.array([[1.0, np.nan], [np.nan, 0.5]]))
    assert (result.mean, result.n) == (pytest.approx(0.75), 0)
    assert np.isnan(result.low)
    nowhere = ags_interval([0.0, 1.0], np.array([[1.0, np.nan]]))
    assert np.isnan(nowhere.mean)


def test_bootstrap_interval_near_the_normal_one() -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(0, 1, 200)
    result = bootstrap_interval(values, np.mean, generator)
    half = 1.96 / 200**0.5
    assert result.mean == pytest.approx(values.mean())
    assert result.high - result.low == pytest.approx(2 * half, rel=0.15)


def test_bootstrap_of_one_seed_has_no_interval() -> None:
    result = bootstrap_interval(np.ones((1, 3)), np.mean, np.random.default_rng(0))
    assert result.mean == 1.0
    assert np.isnan(result.low)
