import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from oodml.analysis.forecast import forecast_methods, leave_splits_out, line_forecast
from oodml.analysis.leave_out import calibration
from oodml.errors import OodmlError
from tests.analysis.tables import falling, results


def _measures(table: pd.DataFrame) -> pd.DataFrame:
    own = table.drop_duplicates("split").set_index("split")["shift"]
    noise = np.random.default_rng(0).normal(0, 15, len(own))
    return pd.DataFrame({"good": own, "bad": own + noise})


def test_expectation_is_the_least_squares_line() -> None:
    x, y = np.array([1.0, 2.0, 5.0, 9.0]), np.array([0.8, 0.7, 0.6, 0.2])
    line = linregress(x, y)
    found = line_forecast(x, y, 7.0)
    assert found.expected == pytest.approx(line.intercept + 7 * line.slope)
    assert found.expected - found.low == pytest.approx(found.high - found.expected)
    wide = line_forecast(x, y, 7.0, widening=2.0)
    assert wide.high - wide.low == pytest.approx(2 * (found.high - found.low))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_covers_a_new_split(level: float) -> None:
    generator = np.random.default_rng(int(100 * level))
    x = np.array([1.0, 3.0, 4.0, 8.0])
    inside = 0
    for _ in range(1000):
        found = line_forecast(x, 0.8 - 0.05 * x + generator.normal(0, 0.02, 4), 6.0, level)
        inside += found.low <= 0.5 + generator.normal(0, 0.02) <= found.high
    assert inside / 1000 == pytest.approx(level, abs=0.035)


@pytest.mark.parametrize("shift", [[1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
def test_too_little_to_draw_a_line(shift: list[float]) -> None:
    with pytest.raises(OodmlError, match="3 splits"):
        line_forecast(shift, [0.5, 0.4, 0.3][: len(shift)], 2.0)


def test_left_out_splits_are_forecast_from_the_others() -> None:
    table = falling({"a": 0.2, "b": 0.4}, splits=5)
    found = leave_splits_out(table, _measures(table))
    assert len(found) == 2 * 5 * (2 + 2 + 1)
    row = found.query(
        "fit == 'own' and measure == 'good' and method == 'b' and split == '10'"
    ).iloc[0]
    means = table[table["method"] == "b"].groupby("split")["value"].mean()
    others = [split for split in means.index if split != "10"]
    x = _measures(table).loc[others, "good"]
    line = linregress(x, means[others])
    assert row["truth"] == pytest.approx(means["10"])
    assert row["expected"] == pytest.approx(line.intercept + line.slope * 50.0)


def test_three_splits_cannot_be_checked() -> None:
    table = falling({"a": 0.2}, splits=3)
    assert leave_splits_out(table, _measures(table)).empty


def test_the_better_measure_comes_first() -> None:
    table = falling({"a": 0.2, "b": 0.4}, splits=5)
    assert calibration(leave_splits_out(table, _measures(table)))["measure"].tolist()[0] == "good"


def test_a_common_slope_is_chosen_where_methods_share_one() -> None:
    table = falling({"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.3}, splits=5, seeds=1, noise=0.03)
    measures = _measures(table)[["good"]]
    assert calibration(leave_splits_out(table, measures))["fit"].tolist()[0] == "common"
    apart = falling({"a": 0.1, "b": 0.5}, splits=5)
    assert calibration(leave_splits_out(apart, measures))["fit"].tolist()[0] == "own"


def test_forecast_of_methods() -> None:
    table = falling({"steep": 0.4, "flat": 0.1}, splits=5)
    found = forecast_methods(table, _measures(table)["good"], 50.0)
    assert found["method"].tolist() == ["flat", "steep"]
    assert found["expected"].to_numpy() == pytest.approx([0.75, 0.6], abs=0.02)
    assert found["relative"].to_numpy() == pytest.approx([0.75 / 0.8, 0.6 / 0.8], abs=0.03)
    assert (found["low_95"] < found["low_80"]).all()


def test_a_forecast_keeps_within_what_the_metric_can_be() -> None:
    table = falling({"a": 0.8}, splits=5)
    found = forecast_methods(table, _measures(table)["good"], 200.0).iloc[0]
    assert found["expected"] == found["low_95"] == 0.0
    assert found["high_95"] <= 1.0
    table["metric"] = "custom"
    free = forecast_methods(table, _measures(table)["good"], 200.0, "custom").iloc[0]
    assert free["expected"] < -0.5


def test_methods_share_a_slope_where_asked() -> None:
    table = falling({"steep": 0.4, "flat": 0.1}, splits=5)
    found = forecast_methods(table, _measures(table)["good"], 85.0, fit="common")
    own = forecast_methods(table, _measures(table)["good"], 85.0)
    assert found["expected"].mean() == pytest.approx(own["expected"].mean())
    assert np.ptp(found["expected"]) != pytest.approx(np.ptp(own["expected"]), abs=1e-3)


def test_no_method_on_enough_splits() -> None:
    table = results([("a", "0", 1.0, 0, 0.5), ("a", "4", 2.0, 0, 0.5)])
    with pytest.raises(OodmlError, match="at least 3 splits"):
        forecast_methods(table, pd.Series({"0": 1.0, "4": 2.0}), 1.5)
