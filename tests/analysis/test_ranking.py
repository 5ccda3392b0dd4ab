import numpy as np
import pytest
from scipy.stats import linregress, ttest_rel

from oodml.analysis.intervals import aggregated_generalization_score
from oodml.analysis.ranking import (
    beat_probability,
    compare_methods,
    misranking,
    ranks,
    seed_scores,
)
from oodml.analysis.table import zero_shot
from oodml.errors import OodmlError
from tests.analysis.tables import falling, results


def test_a_method_worked_out_by_hand() -> None:
    table = results(
        [
            ("m", "-10", 10.0, 0, 0.9), ("m", "0", 20.0, 0, 0.8), ("m", "R5", 50.0, 0, 0.4),
            ("m", "-10", 10.0, 1, 0.7), ("m", "0", 20.0, 1, 0.8), ("m", "R5", 50.0, 1, 0.6),
        ]
    )  # fmt: skip
    row = compare_methods(table).iloc[0]
    per_seed = [
        aggregated_generalization_score([10, 20, 50], curve)
        for curve in ([0.9, 0.8, 0.4], [0.7, 0.8, 0.6])
    ]
    assert row["ags"] == pytest.approx(np.mean(per_seed))
    line = linregress([0, 0.25, 1], [0.8, 0.8, 0.5])
    assert (row["level"], row["slope"]) == pytest.approx((line.intercept, line.slope))
    assert (row["easiest"], row["standard"], row["hardest"]) == pytest.approx((0.8, 0.8, 0.5))
    assert (row["worst_split"], row["seeds"], row["rank"]) == ("R5", 2, 1)
    assert (row["loss"], row["relative_loss"]) == pytest.approx((0.3, 0.3 / 0.8))


def test_loss_is_from_the_easiest_without_a_standard_split() -> None:
    table = results([("m", "4", 1.0, 0, 0.9), ("m", "8", 2.0, 0, 0.6)])
    row = compare_methods(table).iloc[0]
    assert row["loss"] == pytest.approx(0.3)
    assert np.isnan(row["standard"])
    assert np.isnan(row["loss_low"])


def test_one_split_has_no_score() -> None:
    row = compare_methods(results([("m", "0", 1.0, 0, 0.9)])).iloc[0]
    assert np.isnan([row["ags"], row["slope"]]).all()
    assert row["hardest"] == 0.9


def test_the_flattest_method_wins() -> None:
    table = falling({"steep": 0.4, "flat": 0.1, "middle": 0.25})
    assert compare_methods(table)["method"].tolist() == ["flat", "middle", "steep"]
    assert ranks(zero_shot(table, "recall@1"))["30"].to_dict() == {
        "flat": 1.0, "middle": 2.0, "steep": 3.0,
    }  # fmt: skip


def test_beat_probability_is_the_paired_t_test() -> None:
    table = falling({"a": 0.2, "b": 0.21}, seeds=5)
    scores = seed_scores(table)
    expected = 1 - ttest_rel(scores["a"], scores["b"], alternative="greater").pvalue
    result = beat_probability(table)
    assert result.loc["a", "b"] == pytest.approx(expected)
    assert result.loc["a", "b"] + result.loc["b", "a"] == pytest.approx(1)
    assert np.isnan(result.loc["a", "a"])


def test_beat_probability_is_calibrated() -> None:
    """Two equal methods: the probability is uniform, so 5% of studies say more than 95%."""
    said = [beat_probability(_equal_methods(draw)).loc["a", "b"] > 0.95 for draw in range(150)]
    assert 0.02 <= np.mean(said) <= 0.09


def _equal_methods(draw: int):  # type: ignore[no-untyped-def]
    errors = np.random.default_rng(draw).normal(0, 0.01, (2, 2, 3))
    return results(
        (method, split, 10.0 + 5 * s, seed, 0.5 + float(errors[m, s, seed]))
        for m, method in enumerate("ab")
        for s, split in enumerate(["0", "4"])
        for seed in range(3)
    )


def test_beat_probability_on_one_split() -> None:
    table = falling({"a": 0.2, "b": 0.3})
    assert beat_probability(table, split="30").loc["a", "b"] > 0.99
    with pytest.raises(OodmlError) as error:
        beat_probability(table, split="31")
    assert error.value.given == "31"
    assert "30" in error.value.allowed


def test_a_certain_misranking() -> None:
    table = results(
        (method, split, shift, seed, value + 0.001 * seed * (1 + value))
        for method, values in {"early": (0.9, 0.5, 0.3), "late": (0.85, 0.7, 0.6)}.items()
        for (split, shift), value in zip(
            [("0", 1.0), ("8", 20.0), ("16", 40.0)], values, strict=True
        )
        for seed in range(3)
    )
    result = misranking(table)
    assert result is not None
    assert result.inverted == (("late", "early"),)
    assert result.agreement == -1.0


def test_no_misranking_where_all_agree() -> None:
    table = falling({"a": 0.1, "b": 0.3}, noise=0.0)
    shifted = table.assign(value=table["value"] - 0.1 * (table["method"] == "b"))
    result = misranking(shifted)
    assert result is not None
    assert result.inverted == result.tied_inverted == ()


def test_misranking_needs_a_standard_split_and_two_methods() -> None:
    assert misranking(results([("a", "4", 1.0, 0, 0.9), ("b", "8", 2.0, 0, 0.6)])) is None
    assert misranking(falling({"a": 0.1})) is None
