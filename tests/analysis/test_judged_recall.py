import numpy as np
import pytest

from oodml.analysis.judged_recall import JudgedValue, combine, judged_recall, sample_queries
from oodml.errors import OodmlError


def chances(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted chances, and answers of which the predictions are a biased, noisy version."""
    logits = generator.normal(1.0, 1.5, n)
    answers = (generator.random(n) < 1 / (1 + np.exp(-logits))).astype(float)
    noisy = logits + 1.0 + generator.normal(0, 1, n)
    return 1 / (1 + np.exp(-noisy)), answers


@pytest.mark.parametrize("singletons", [0.0, 0.2])
def test_intervals_cover_over_1000_draws(singletons: float) -> None:
    generator = np.random.default_rng(0)
    predicted, answers = chances(generator, 600)
    answers[generator.random(600) < singletons] = np.nan
    truth, inside, values = float(np.nanmean(answers)), [], []
    for _ in range(1000):
        sample = sample_queries(predicted, 60, generator)
        result = judged_recall(
            predicted, sample.queries, answers[sample.queries], sample.probability
        )
        inside.append(result.low <= truth <= result.high)
        values.append(result.expected)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)
    assert np.mean(values) == pytest.approx(truth, abs=0.01)


def test_samples_have_the_stated_chances() -> None:
    generator = np.random.default_rng(1)
    predicted, _ = chances(generator, 40)
    counts = np.zeros(40)
    for _ in range(4000):
        sample = sample_queries(predicted, 10, generator)
        assert len(sample.queries) == 10
        counts[sample.queries] += 1
    np.testing.assert_allclose(counts / 4000, sample.probability, atol=0.035)
    assert sample.probability.sum() == pytest.approx(10)
    assert len(sample_queries(predicted, 100, generator).queries) == 40


def test_judging_everything_gives_the_value() -> None:
    generator = np.random.default_rng(2)
    predicted, answers = chances(generator, 50)
    result = judged_recall(predicted, np.arange(50), answers, np.ones(50))
    assert result.expected == pytest.approx(answers.mean(), abs=0.005)


def test_few_answers_are_refused() -> None:
    with pytest.raises(OodmlError) as error:
        judged_recall(np.full(20, 0.5), np.arange(5), np.ones(5), np.full(20, 0.25))
    assert error.value.given == 5


def test_a_forecast_moves_the_value_but_not_the_interval() -> None:
    judged, forecast = JudgedValue(0.6, 0.5, 0.7), JudgedValue(0.8, 0.75, 0.85)
    combined = combine(judged, forecast)
    assert combined[1:] == judged[1:]
    assert 0.6 < combined.expected <= 0.7
