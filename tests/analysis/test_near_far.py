import numpy as np
import pytest
import scipy.stats

from oodml.analysis.gains import crossing_shift, describe_near_and_far, near_and_far
from tests.analysis.tables import results


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ([2.0, 1.0, -1.0, -2.0], 30.0),
        ([2.0, -1.0, 1.0, -3.0], 42.5),  # the last crossing counts
        ([-1.0, -1.0, -1.0, -1.0], 10.0),
        ([-1.0, -1.0, -1.0, 0.5], np.inf),
        ([1.0, np.nan, -1.0, -1.0], np.nan),
    ],
)
def test_crossing(gain: list[float], expected: float) -> None:
    shift = np.array([10.0, 20.0, 40.0, 50.0])
    assert crossing_shift(shift, np.array(gain)) == pytest.approx(expected, nan_ok=True)


def test_gains_intervals_and_crossing_of_a_method() -> None:
    seeds = {"tuned": {"0": [0.9, 0.94, 0.92], "9": [0.71, 0.69, 0.73]}, "frozen": {}}
    seeds["frozen"] = {"0": [0.8], "9": [0.75]}
    shift = {"0": 10.0, "9": 50.0}
    table = results(
        (method, split, shift[split], seed, value)
        for method, splits in seeds.items()
        for split, values in splits.items()
        for seed, value in enumerate(values)
    )
    (row,) = near_and_far(table).to_dict("records")
    gains = np.array(seeds["tuned"]["0"]) - 0.8
    low, high = scipy.stats.t.interval(0.95, 2, gains.mean(), scipy.stats.sem(gains))
    assert (row["near"], row["near_low"], row["near_high"]) == pytest.approx(
        (gains.mean(), low, high)
    )
    assert row["far"] == pytest.approx(-0.04)
    assert row["crossing"] == pytest.approx(10 + 40 * 0.12 / 0.16)
    assert row["crossing_low"] < row["crossing"]
    assert row["crossing_high"] == np.inf
    sentence = describe_near_and_far(near_and_far(table))
    assert "+12.0" in sentence
    assert "40.00" in sentence
    assert near_and_far(table[table["method"] == "tuned"]).empty
    assert near_and_far(table[table["split"] == "0"]).empty
    assert describe_near_and_far(near_and_far(table).iloc[:0]) == ""


def test_a_baseline_that_is_better_everywhere_has_no_crossing_in_words() -> None:
    table = results(
        (method, split, {"0": 10.0, "9": 50.0}[split], 0, value)
        for method, values in {"tuned": (0.7, 0.6), "frozen": (0.8, 0.75)}.items()
        for split, value in zip(("0", "9"), values, strict=True)
    )
    sentence = describe_near_and_far(near_and_far(table))
    assert "every split" in sentence
    assert "better" not in sentence  # one seed
    assert "10.00" not in sentence
