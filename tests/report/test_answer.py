import re
from pathlib import Path

import pandas as pd
import pytest

from oodml.analysis.ranking import compare_methods
from oodml.report.answer import Answer, answer
from oodml.report.folder import StudyFolder
from oodml.report.tables import tables
from tests.analysis.tables import falling, results

METRIC = "recall@1"


def _answer(table: pd.DataFrame, chance: float | None = None) -> Answer:
    folder = StudyFolder(Path("none"), table, "birds")
    computed = tables(folder)
    if chance is not None:
        computed["chance_ags"] = pd.DataFrame({"metric": [METRIC], "chance": [chance]})
    return answer(computed, "birds", METRIC)


def _tied(*more: str, baseline: str = "") -> pd.DataFrame:
    """Methods a and b with the same AGS up to noise, and others that are far behind."""
    names = (
        {"a": 0.5, "b": 0.4995} | dict.fromkeys(more, 0.3) | ({baseline: 0.499} if baseline else {})
    )
    noise = {"a": (0.01, -0.009, 0.002), "b": (-0.01, 0.009, 0.001)}
    return results(
        (name, split, shift, seed, value + noise.get(name, (0.0, 0.001, 0.002))[seed])
        for name, value in names.items()
        for split, shift in (("0", 1.0), ("4", 2.0))
        for seed in range(3)
        if name != baseline or seed == 0
    )


def test_a_separated_winner() -> None:
    result = _answer(falling({"flat": 0.1, "steep": 0.4}))
    assert re.match(r"On birds, flat generalizes best", result.headline)
    assert "ahead of steep" in result.headline
    assert result.probability is not None
    assert result.probability > 0.99


def test_methods_that_are_not_separated_lead_together() -> None:
    result = _answer(_tied())
    assert "no method is clearly better" in result.headline
    assert "a and b" in result.headline
    result = _answer(_tied("last"))
    assert "a and b lead" in result.headline
    assert "last is 20" in result.headline or "last is 19" in result.headline
    assert result.probability is None


@pytest.mark.parametrize("slopes", [{"flat": 0.1, "steep": 0.4}, {"a": 0.2, "frozen": 0.1}])
def test_one_seed_names_no_winner(slopes: dict[str, float]) -> None:
    result = _answer(falling(slopes, seeds=1))
    assert result.probability is None
    assert "may be chance" in result.headline
    assert "best" not in result.headline
    assert any("seed" in detail for detail in result.details)


def test_a_baseline_competes_as_a_constant() -> None:
    below = _answer(falling({"flat": 0.1, "steep": 0.4, "frozen": 0.6}))
    assert "frozen 4" in below.facts[2].of
    above = _answer(falling({"flat": 0.2, "steep": 0.4, "frozen": 0.0}))
    assert "no trained method matches frozen" in above.headline
    assert "flat is" in above.headline
    level = _answer(_tied(baseline="frozen"))
    assert "no method is clearly better than frozen" in level.headline


def test_facts_beside_baseline_and_chance() -> None:
    table = falling({"flat": 0.1, "steep": 0.4, "frozen": 0.5})
    order = compare_methods(table).set_index("method")
    course, hardest, score = _answer(table, chance=0.01).facts
    best, second, frozen = (
        f"{100 * order.loc[n, 'ags']:.1f}%" for n in ("flat", "steep", "frozen")
    )
    assert score.number == best
    assert score.of.endswith(f"steep {second}, frozen {frozen}, chance 1.0%")
    assert course.number == f"{100 * order.loc['flat', 'easiest']:.1f}% → {hardest.number}"
    assert "lowest" not in course.of
    assert hardest.number == f"{100 * order.loc['flat', 'hardest']:.1f}%"
    ahead = falling({"late": 0.3, "frozen": 0.3})
    ahead.loc[ahead.eval("method == 'frozen' and split == '30'"), "value"] += 0.02
    ahead.loc[ahead.eval("method == 'late' and split == '0'"), "value"] += 0.2
    assert "frozen 52" in _answer(ahead).facts[1].of
    middle = ahead["split"].unique()[1]
    ahead.loc[ahead.eval("method == 'late' and split == @middle"), "value"] = 0.2
    assert f"lowest is 20.0%, on split {middle}" in _answer(ahead).facts[0].of


def test_a_method_with_one_seed_is_the_reason_for_a_missing_interval() -> None:
    table = falling({"flat": 0.1, "steep": 0.4})
    result = _answer(table[(table["method"] == "flat") | (table["seed"] == 0)])
    assert any(detail.startswith("steep has one seed") for detail in result.details)


def test_one_split_one_method_or_only_the_baseline() -> None:
    one_split = _answer(results([("a", "0", 1.0, 0, 0.5), ("b", "0", 1.0, 0, 0.6)]))
    assert "b scores 10.0 points" in one_split.headline
    assert "may be chance" in one_split.headline
    assert len(one_split.facts) == 1
    assert "AGS of 7" in _answer(falling({"a": 0.2})).headline
    assert "only frozen" in _answer(falling({"frozen": 0.2})).headline


def test_no_method_on_every_split() -> None:
    result = _answer(results([("a", "0", 1.0, 0, 0.5), ("b", "4", 2.0, 0, 0.6)]))
    assert "every split" in result.headline
