import numpy as np
import pytest

import oodml
from oodml.errors import OodmlError


def models(gap: float, seed: int = 0, n_classes: int = 60) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), 8)
    centers = generator.standard_normal((n_classes, 16))[labels]
    noise = generator.standard_normal((2, len(labels), 16))
    return 0.6 * centers + noise[0], (0.6 - gap) * centers + noise[1], labels


def test_values_are_the_metrics_and_the_interval_contains_the_difference() -> None:
    a, b, labels = models(0.2)
    for comparison in oodml.compare(a, b, labels, metrics=("recall@1", "map@r"), resamples=2000):
        assert comparison.a == pytest.approx(oodml.retrieval_metrics(a, labels)[comparison.metric])
        assert comparison.b == pytest.approx(oodml.retrieval_metrics(b, labels)[comparison.metric])
        assert comparison.difference == pytest.approx(comparison.a - comparison.b)
        assert 0 < comparison.low < comparison.difference < comparison.high
        assert comparison.probability > 0.99


def test_interval_equals_a_naive_bootstrap() -> None:
    a, b, labels = models(0.05)
    (comparison,) = oodml.compare(a, b, labels, metrics=["map@r"], resamples=4000, confidence=0.9)
    values = [oodml.retrieval_metrics(model, labels, per_query=True)["map@r"] for model in (a, b)]
    generator = np.random.default_rng(5)
    differences = []
    for _ in range(3000):
        drawn = generator.integers(60, size=60)
        rows = np.concatenate([np.flatnonzero(labels == name) for name in drawn])
        differences.append((values[0][rows] - values[1][rows]).mean())
    low, high = np.quantile(differences, [0.05, 0.95])
    width = high - low
    assert comparison.low == pytest.approx(low, abs=0.1 * width)
    assert comparison.high == pytest.approx(high, abs=0.1 * width)
    assert comparison.probability == pytest.approx(np.mean(np.array(differences) > 0), abs=0.05)


def test_a_model_is_not_better_than_itself() -> None:
    a, _, labels = models(0.0)
    (comparison,) = oodml.compare(a, a, labels, metrics=["recall@1"])
    assert comparison.difference == comparison.low == comparison.high == 0
    assert comparison.probability == 0.5


def test_resamples_depend_on_the_seed() -> None:
    a, b, labels = models(0.05)
    first, again, other = (
        oodml.compare(a, b, labels, metrics=["map"], seed=seed, resamples=200) for seed in (1, 1, 2)
    )
    assert first == again
    assert first[0].low != other[0].low


def test_bad_input_is_refused() -> None:
    a, b, labels = models(0.1)
    with pytest.raises(OodmlError, match="images"):
        oodml.compare(a, b[1:], labels)
    with pytest.raises(OodmlError) as unknown_metric:
        oodml.compare(a, b, labels, metrics=["recal@1"])
    assert "recall@1" in unknown_metric.value.allowed
    with pytest.raises(OodmlError, match="confidence"):
        oodml.compare(a, b, labels, confidence=2)
