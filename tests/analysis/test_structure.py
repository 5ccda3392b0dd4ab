import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from oodml.analysis.diagnostics import (
    structure_correlations,
    structure_metrics_of,
    structure_points,
)
from tests.analysis.tables import results


def table(within: float, seeds: int = 4):  # type: ignore[no-untyped-def]
    """Recall falls with shift; density follows recall within a split by `within`."""
    generator = np.random.default_rng(8)
    recall, density = [], []
    for m in range(4):
        for s, split in enumerate(["0", "4", "8"]):
            for seed in range(seeds):
                deviation = float(generator.normal(0, 0.01))
                start = (f"m{m}", split, 10.0 * (s + 1), seed)
                recall.append((*start, 0.8 - 0.2 * s + deviation))
                other = within * deviation + (1 - abs(within)) * float(generator.normal(0, 0.01))
                density.append((*start, 0.5 + other))
    return pd.concat([results(recall), results(density, "density")])


def test_the_correlation_within_splits() -> None:
    result = structure_correlations(structure_points(table(1.0))).iloc[0]
    assert result["measure"] == "density"
    assert result["within"] == pytest.approx(1.0)
    assert abs(result["overall"]) < 0.7


def test_within_is_spearman_for_one_split() -> None:
    one = table(0.5)
    one = one[one["split"] == "0"]
    points = structure_points(one)
    expected = spearmanr(points["x"], points["y"]).statistic
    assert structure_correlations(points).iloc[0]["within"] == pytest.approx(expected)


def test_the_interval_holds_the_estimate_and_widens_without_relation() -> None:
    related, not_related = (
        structure_correlations(structure_points(table(w))).iloc[0] for w in (0.9, 0.0)
    )
    for row in (related, not_related):
        assert row["within_low"] <= row["within"] + 0.15
        assert row["within"] - 0.15 <= row["within_high"]
    assert related["within_low"] > not_related["within_high"]


def test_measures_that_do_not_vary_are_left_out() -> None:
    flat = table(0.0)
    flat.loc[flat["metric"] == "density", "value"] = 0.5
    assert structure_metrics_of(flat) == ["density"]
    assert structure_correlations(structure_points(flat)).empty
