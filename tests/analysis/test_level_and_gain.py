import numpy as np
import pandas as pd
import pytest

from oodml.analysis.level_and_gain import difficulty, divide_loss, equal_difficulty, fit_gain
from oodml.errors import OodmlError

T, GROUPS = 240, 8


@pytest.mark.parametrize(("harder", "farther"), [(0.2, 0.0), (0.0, 40.0), (0.2, 40.0)])
def test_planted_causes_are_separated(harder: float, farther: float) -> None:
    """Only difficulty, only shift, or both change along a progression."""
    generator = np.random.default_rng(0)
    groups = np.zeros((T, GROUPS), dtype=bool)
    groups[np.arange(T), np.arange(T) % GROUPS] = True
    step = np.repeat([0.0, 0.5, 1.0], T // 3)
    shift = 10 + farther * step
    level = 0.8 - harder * step + generator.normal(0, 0.1, T)
    gain = 0.1 - 0.002 * shift - 0.1 * level + generator.normal(0, 0.02, T)
    ends = pd.DataFrame({"shift": [10, 10 + farther], "level": [0.8, 0.8 - harder]})
    ends["value"] = ends["level"] + 0.1 - 0.002 * ends["shift"] - 0.1 * ends["level"]
    loss = divide_loss(gain, shift, level, groups, ends)
    assert loss.raw == pytest.approx(0.9 * harder + 0.002 * farther)
    assert loss.difficulty.low - 1e-9 <= 0.9 * harder <= loss.difficulty.high + 1e-9
    assert loss.shift.low - 1e-9 <= 0.002 * farther <= loss.shift.high + 1e-9
    if not farther:
        assert loss.shift.value == 0


def test_gain_is_a_weighted_least_squares_fit() -> None:
    generator = np.random.default_rng(1)
    shift, level, weights = generator.random((3, 30))
    gain = generator.random(30)
    result = fit_gain(gain, shift, level, weights)
    x = np.stack([np.ones(30), shift, level], 1)
    w = np.diag(weights)
    np.testing.assert_allclose(result, np.linalg.inv(x.T @ w @ x) @ x.T @ w @ gain)


def test_equal_difficulty_keeps_the_mean() -> None:
    level = np.array([0.8, 0.7, 0.6])
    value = level + 0.05
    np.testing.assert_allclose(equal_difficulty(value, level, 0.0), [0.75] * 3)
    assert equal_difficulty(value, level, 0.3).mean() == pytest.approx(value.mean())


def test_difficulty_against_loops() -> None:
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(24, 5))
    classes = np.repeat(["a", "b", "c", "d"], [4, 8, 6, 6])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    means = [unit[classes == name].mean(axis=0) for name in "abcd"]
    nearest = [
        min(np.linalg.norm(one - other) for other in means if other is not one) for one in means
    ]
    result = difficulty(vectors, classes)
    assert result[:3] == (24, 4, 6.0)
    assert result.spacing == pytest.approx(np.mean(nearest))
    with pytest.raises(OodmlError):
        difficulty(vectors, np.full(24, "a"))


def test_spacing_falls_with_more_classes() -> None:
    generator = np.random.default_rng(3)
    centers = generator.normal(size=(100, 4))
    labels = np.repeat(np.arange(100), 3)
    vectors = centers[labels]
    few = labels < 10
    names = labels.astype(str)
    assert difficulty(vectors[few], names[few]).spacing > 1.5 * difficulty(vectors, names).spacing
