import numpy as np
import pandas as pd
import pytest

from oodml.analysis.leave_out import calibration, leave_out, nested_choice, widen, widening
from oodml.analysis.lines import FITS, fit_lines


def _points(
    groups: int = 8, each: int = 3, between: float = 0.03, seed: int = 0, slope: float = 0.02
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Two methods on points in groups, whose points lie off the line together."""
    generator = np.random.default_rng(seed)
    names = [f"g{group}" for group in range(groups) for _ in range(each)]
    x = generator.uniform(0, 10, groups * each)
    off = np.repeat(generator.normal(0, between, groups), each)
    heights = np.array([[0.8], [0.7]])
    values = heights - slope * x + off + generator.normal(0, 0.005, (2, len(x)))
    columns = [f"p{place}" for place in range(len(x))]
    measures = pd.DataFrame({"good": x, "bad": generator.permutation(x)}, index=columns)
    return pd.DataFrame(values, index=["a", "b"], columns=columns), measures, names


def test_every_point_is_forecast_from_the_other_groups_alone() -> None:
    values, measures, groups = _points()
    found = leave_out(values, measures, groups)
    assert len(found) == 24 * 2 * (2 + 2 + 1)
    row = found.query("fit == 'own' and measure == 'good' and method == 'b' and point == 'p7'")
    others = np.array([group != "g2" for group in groups])
    x = measures["good"].to_numpy()
    codes = np.unique(np.array(groups)[others], return_inverse=True)[1]
    lines = fit_lines(x[others], values.to_numpy()[:, others], codes)
    assert row["expected"].item() == pytest.approx(lines.expected(x[[7]])[1, 0])
    half = lines.half_width(x[[7]], 0.95)[1, 0]
    assert row["high_95"].item() - row["expected"].item() == pytest.approx(half)
    assert row["truth"].item() == values.loc["b", "p7"]


def test_a_truth_has_no_say_in_its_own_interval() -> None:
    values, measures, groups = _points()
    before = leave_out(values, measures, groups)
    moved = values.copy()
    moved.loc[:, np.array(groups) == "g4"] += 0.5
    after = leave_out(moved, measures, groups)
    own = before["group"] == "g4"
    columns = ["expected", "low_80", "high_95", "widening_80", "widening_95"]
    pd.testing.assert_frame_equal(before.loc[own, columns], after.loc[own, columns])
    assert not np.allclose(before.loc[~own, "expected"], after.loc[~own, "expected"])


def test_intervals_cover_left_out_groups_whose_points_err_together() -> None:
    rows = []
    for seed in range(30):
        values, measures, groups = _points(seed=seed)
        found = calibration(leave_out(values, measures[["good"]], groups))
        rows.append(found.query("fit == 'common'").iloc[0])
    covered = pd.DataFrame(rows)[["coverage_80", "coverage_95"]].mean()
    assert covered.to_numpy() == pytest.approx([0.8, 0.95], abs=0.06)


def test_points_that_were_counted_as_independent_would_be_too_sure() -> None:
    values, measures, groups = _points(each=6)
    honest = leave_out(values, measures, groups)
    x, y = measures["good"].to_numpy(), values.to_numpy()
    naive = fit_lines(x[6:], y[:, 6:], np.arange(42)).half_width(x[:6], 0.95)
    row = honest.query("fit == 'own' and measure == 'good' and group == 'g0' and method == 'a'")
    assert (row["high_95"] - row["expected"]).mean() > naive[0].mean()


def test_the_better_fit_and_measure_come_first_and_the_mean_last() -> None:
    found = calibration(leave_out(*_points(between=0.01)))
    assert found["fit"].iloc[-1] == "flat"
    assert found["measure"].iloc[0] == "good"
    assert set(found["fit"]) == set(FITS)
    assert found["error"].iloc[0] < found["error"].iloc[-1]


def test_each_group_is_forecast_by_the_line_that_the_others_choose() -> None:
    values, measures, groups = _points(groups=6, each=2, between=0.05)
    measures["other"] = measures["good"] + np.random.default_rng(2).normal(0, 2, 12)
    every = leave_out(values, measures, groups)
    found = nested_choice(every)
    chosen = set()
    for group in dict.fromkeys(groups):
        rest = np.array([name != group for name in groups])
        others = leave_out(values.loc[:, rest], measures[rest], [g for g in groups if g != group])
        best = calibration(others).iloc[0]
        chosen.add((best["fit"], best["measure"]))
        expected = every[
            (every["group"] == group)
            & (every["fit"] == best["fit"])
            & (every["measure"] == best["measure"])
        ]
        told = ["method", "point", "truth", "expected", "high_80", "widening_80", "widening_95"]
        pd.testing.assert_frame_equal(
            found.loc[found["group"] == group, told].reset_index(drop=True),
            expected[told].reset_index(drop=True),
        )
    assert len(chosen) > 1
    assert calibration(found)["forecasts"].tolist() == [24]


def test_the_best_of_many_lines_looks_better_than_it_does_on_what_it_has_not_seen() -> None:
    best, unseen, truly = [], [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        names = [f"p{place}" for place in range(6)]
        y = pd.DataFrame(generator.normal(0.5, 0.02, (2, 6)), columns=names)
        measures = pd.DataFrame(generator.normal(size=(6, 3)), index=names)
        every = leave_out(y, measures, names)
        row = calibration(every).iloc[0]
        best.append(row["error"])
        unseen.append(calibration(nested_choice(every))["error"].item())
        x = measures[row["measure"]].to_numpy()
        lines = fit_lines(x, y.to_numpy(), np.arange(6), row["fit"])
        new = generator.normal(size=20)
        off = generator.normal(0.5, 0.02, (2, 20)) - lines.expected(new)
        truly.append(np.abs(off).mean())
    assert np.mean(best) < 0.9 * np.mean(truly)
    assert np.mean(unseen) == pytest.approx(np.mean(truly), rel=0.1)


def test_widening_is_the_quantile_of_what_was_needed() -> None:
    off, half = np.array([0.5, 0.5, 1.5, 3.0]), np.ones(4)
    assert widening(off, half, np.ones(4), 0.8) == 3.0
    assert widening(off, half, np.ones(4), 0.75) == 1.5
    assert widening(off, half, np.ones(4), 0.5) == 1.0
    assert widening(off, half, np.array([1.0, 1.0, 6.0, 1.0]), 0.8) == 1.5
    assert np.isnan(widening(off[:0], half[:0], half[:0], 0.8))


def test_intervals_too_narrow_are_widened_and_then_cover_more() -> None:
    values, measures, groups = _points(groups=12, each=2, between=0.0)
    generator = np.random.default_rng(1)
    heavy = values + np.where(generator.uniform(size=values.shape[1]) < 0.3, 0.1, 0.0)
    left_out = leave_out(heavy, measures, groups)
    narrow = left_out.copy()
    for side in ("low", "high"):
        narrow[f"{side}_80"] = narrow["expected"] + (narrow[f"{side}_80"] - narrow["expected"]) / 3
    narrow["widening_80"] *= 3
    row = calibration(narrow).iloc[0]
    assert row["coverage_80"] < 0.8 <= row["widened_coverage_80"]
    assert row["widening_80"] > 1
    wide = widen(narrow)
    assert (wide["high_80"] - wide["low_80"]).to_numpy() == pytest.approx(
        (narrow["high_80"] - narrow["low_80"]).to_numpy() * narrow["widening_80"].to_numpy()
    )


def test_four_groups_are_forecast_but_their_widening_cannot_be_checked() -> None:
    values, measures, groups = _points(groups=4)
    found = calibration(leave_out(values, measures, groups))
    assert found.query("fit == 'own'")["widened_coverage_80"].isna().all()
    assert (found["widening_80"] >= 1).all()
    assert nested_choice(leave_out(values, measures, groups)).empty


def test_three_groups_cannot_be_forecast() -> None:
    values, measures, groups = _points(groups=3)
    assert leave_out(values, measures, groups).empty
    assert calibration(leave_out(values, measures, groups)).empty
    assert nested_choice(leave_out(values, measures, groups)).empty


def test_many_groups_are_left_out_several_at_a_time() -> None:
    values, measures, groups = _points(groups=70, each=1)
    found = leave_out(values, measures, groups)
    assert found["group"].nunique() == 70
    assert calibration(found)["forecasts"].tolist() == [140] * 5
