import numpy as np
import pytest

from oodml.analysis.gains import episode_gains, few_shot_gains, gain_slopes
from oodml.analysis.intervals import student_interval
from tests.analysis.tables import falling, few_shot_results

GAINS = {
    ("0", 0): (0.01, 0.03),
    ("0", 1): (0.02, 0.04),
    ("8", 0): (0.05, 0.05),
    ("8", 1): (0.07, 0.09),
}


def table(seeds: tuple[int, ...] = (0, 1)):  # type: ignore[no-untyped-def]
    return few_shot_results(
        ("m", split, {"0": 10.0, "8": 30.0}[split], seed, 2, episode, 0.5, 0.5 + gain)
        for (split, seed), gains in GAINS.items()
        if seed in seeds
        for episode, gain in enumerate(gains)
    )


def test_gains_are_paired_by_episode() -> None:
    gains = episode_gains(table())
    assert len(gains) == 8
    np.testing.assert_allclose(gains["gain"], gains["after"] - gains["before"])


def test_interval_over_seeds_of_the_episodes_means() -> None:
    row = few_shot_gains(table()).iloc[0]
    expected = student_interval([0.02, 0.03])
    assert (row["split"], row["shots"], row["over"], row["n"]) == ("0", 2, "seeds", 2)
    result = (row["gain"], row["gain_low"], row["gain_high"])
    assert result == pytest.approx(expected[:3])


def test_one_seed_falls_back_to_episodes() -> None:
    row = few_shot_gains(table(seeds=(0,))).iloc[0]
    expected = student_interval([0.01, 0.03])
    assert (row["over"], row["n"]) == ("episodes", 2)
    assert (row["gain"], row["gain_low"]) == pytest.approx(expected[:2])


def test_slope_of_the_gain() -> None:
    row = gain_slopes(table()).iloc[0]
    assert row["slope"] == pytest.approx(np.mean([0.05 - 0.02, 0.08 - 0.03]))


def test_no_few_shot_rows() -> None:
    zero_shot = falling({"m": 0.1})
    assert few_shot_gains(zero_shot).empty
    assert gain_slopes(zero_shot).empty
