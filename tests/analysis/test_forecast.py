import numpy as np
import pandas as pd
import pytest

from oodml.analysis.forecast import (
    Forecaster,
    TargetSignals,
    half_width,
    score_forecasts,
    weighted_quantile,
)
from oodml.analysis.signal_models import fit_logistic, fit_ridge, from_logit, to_logit
from oodml.analysis.small_targets import (
    ALL_CLASSES,
    SmallTargets,
    draw_small_targets,
    group_classes,
)

GROUPS, QUERIES = 6, 60


def made_up_targets(generator: np.random.Generator, count: int = 90) -> SmallTargets:
    """Targets whose neighbors are right with a chance that the first signal determines."""
    groups = np.zeros((count, GROUPS), dtype=bool)
    groups[np.arange(count), np.arange(count) % GROUPS] = True
    signals, correct, images = [], [], generator.integers(40, 400, count)
    for center in generator.normal(0.8, 0.8, count):
        first = generator.normal(center, 1.0, QUERIES)
        signals.append(np.column_stack([first, generator.normal(size=QUERIES)]))
        correct.append((generator.random(QUERIES) < 1 / (1 + np.exp(-first))).astype(float))
    level = np.array([values.mean() for values in correct])
    sizes = pd.DataFrame({"images": images, "classes": images / 8, "singletons": 0.0})
    sizes["shift"] = generator.normal(10, 2, count)
    values = pd.DataFrame({"frozen": level, "margin": np.clip(level + 0.05, 0, 1)})
    spread = pd.DataFrame({"frozen": np.zeros(count), "margin": 0.05})
    return SmallTargets(("first", "second"), groups, sizes, signals, correct, values, spread)


def test_a_target_is_forecast_from_its_signals() -> None:
    generator = np.random.default_rng(0)
    forecaster = Forecaster(made_up_targets(generator))
    errors, inside = [], []
    for center in np.linspace(0.0, 1.6, 9):
        first = generator.normal(center, 1.0, 400)
        signals = np.column_stack([first, generator.normal(size=400)])
        truth = float((1 / (1 + np.exp(-first))).mean())
        result = forecaster.forecast(TargetSignals(signals, 200, 10.0))
        rows = result.methods.set_index("method")
        frozen = rows.loc["frozen"]
        errors.append(abs(frozen["expected"] - truth))
        inside.append(frozen["low_95"] <= truth <= frozen["high_95"])
        assert frozen["low_95"] <= frozen["low_80"] <= frozen["expected"] <= frozen["high_80"]
        assert rows.loc["margin", "gain"] == pytest.approx(0.05, abs=0.02)
        assert result.calibrated
        assert result.correct.shape == (400,)
    assert np.mean(errors) < 0.04
    assert np.mean(inside) > 0.7


def test_signals_outside_the_range_are_named_and_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    forecaster = Forecaster(made_up_targets(generator))
    near = generator.normal([0.8, 0.0], 1.0, (200, 2))
    far = near + np.array([0.0, 9.0])
    one, other = (forecaster.forecast(TargetSignals(x, 200, 10.0)) for x in (near, far))
    assert one.outside == ()
    assert one.widening == 1
    assert other.outside == ("second",)
    assert other.widening > 2


def test_given_sizes_are_used() -> None:
    generator = np.random.default_rng(2)
    small = made_up_targets(generator)
    forecaster = Forecaster(small, sized=True)
    target = TargetSignals(generator.normal(0.8, 1.0, (200, 2)), 200, 10.0, classes=25)
    assert 0 < forecaster.forecast(target).methods["expected"].iloc[0] < 1


def test_ridge_and_logistic_agree_with_scipy() -> None:
    from scipy.optimize import minimize

    generator = np.random.default_rng(3)
    x, weights = generator.normal(size=(80, 3)), generator.random(80) + 0.1
    y = (generator.random(80) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
    center = np.average(x, axis=0, weights=weights)
    scale = np.sqrt(np.average((x - center) ** 2, axis=0, weights=weights))
    z = (x - center) / scale

    def squared(parameters: np.ndarray) -> float:
        residual = y - np.average(y, weights=weights) - z @ parameters
        return float((weights * residual**2).sum() + 3 * (parameters**2).sum())

    def likelihood(parameters: np.ndarray) -> float:
        logits = z @ parameters[:-1] + parameters[-1]
        loss = np.logaddexp(0, logits) - y * logits
        return float((weights * loss).sum() + 1.5 * (parameters[:-1] ** 2).sum())

    ridge, logistic = fit_ridge(x, y, weights, 3.0), fit_logistic(x, y, weights, 3.0)
    np.testing.assert_allclose(ridge.weights, minimize(squared, np.zeros(3)).x, atol=1e-4)
    outcome = minimize(likelihood, np.zeros(4)).x
    np.testing.assert_allclose([*logistic.weights, logistic.intercept], outcome, atol=1e-3)


def test_logits_are_inverted() -> None:
    share = np.linspace(0, 1, 11)
    np.testing.assert_allclose(from_logit(to_logit(share)), share, atol=1e-12)


def test_quantiles_weigh_groups() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    assert weighted_quantile(values, weights, 0.5) == 1
    assert weighted_quantile(values, weights, 0.75) == 2
    assert weighted_quantile(values, weights, 1.0) == 3


def test_half_widths_cover_new_targets() -> None:
    generator = np.random.default_rng(4)
    noise = generator.uniform(0.0, 2.0, 4000)
    errors = np.abs(generator.normal(0, np.sqrt(1 + noise)))
    half = half_width(errors, 8, np.ones(4000), 0.8, noise, 0.5)
    assert (np.abs(generator.normal(0, np.sqrt(1.5), 4000)) <= half).mean() == pytest.approx(
        0.8, abs=0.03
    )
    assert half_width(errors, 4, np.ones(4000), 0.8) == pytest.approx(errors.max())


def test_small_targets_stay_in_their_groups_and_splits() -> None:
    labels = np.repeat(np.arange(60), 8)
    groups = np.repeat(np.arange(6), 10)
    tests = [np.arange(0, 60, 2), np.arange(1, 60, 2)]
    draws = draw_small_targets(labels, groups, tests, np.random.default_rng(5))
    assert len(draws) > 150
    assert {draw.split for draw in draws} == {0, 1, ALL_CLASSES}
    assert {len(draw.groups) for draw in draws} >= {1, 2, 5}
    for draw in draws:
        classes = np.unique(labels[draw.rows])
        assert draw.split == ALL_CLASSES or np.isin(classes, tests[draw.split]).all()
        assert tuple(np.unique(groups[classes])) == draw.groups
        assert draw.queries.max() < len(draw.rows) >= 20


def test_superclasses_are_merged_into_groups() -> None:
    superclasses = {f"c{i}": f"s{i % 30}" for i in range(90)}
    groups = group_classes(superclasses)
    assert sorted(np.bincount(list(groups.values()))) == [6] * 6 + [9] * 6
    by_superclass = {(superclasses[name], group) for name, group in groups.items()}
    assert len(by_superclass) == 30
    assert set(group_classes({"a": "x", "b": "y"}).values()) == {0}


def test_scores() -> None:
    rows = pd.DataFrame(
        {
            "leave": ["a", "a", "b", "b"],
            "target": "whole",
            "method": ["frozen", "margin"] * 2,
            "truth": [0.5, 0.6, 0.7, 0.6],
            "expected": [0.5, 0.55, 0.6, 0.7],
            "low_80": [0.4, 0.5, 0.5, 0.65],
            "high_80": [0.6, 0.58, 0.75, 0.8],
            "low_95": 0.3,
            "high_95": 0.9,
            "gain": [0.0, 0.1, 0.0, -0.1],
            "gain_expected": [0.0, 0.05, 0.0, 0.1],
        }
    )
    scores = score_forecasts(rows)
    assert scores["error"] == pytest.approx((0.025 + 0.1) / 2)
    assert scores["coverage_80"] == pytest.approx(0.5)
    assert scores["gain_error"] == pytest.approx((0.05 + 0.2) / 2)
    assert scores["regret"] == pytest.approx(0.05)
    outside = [0, 0.6 - 0.58, 0, 0.65 - 0.6]
    widths = [0.2, 0.08, 0.25, 0.15]
    assert scores["interval_score"] == pytest.approx(np.mean(widths) + 10 * np.mean(outside))
