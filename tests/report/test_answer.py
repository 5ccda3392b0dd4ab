import pytest

from oodml.analysis.ranking import compare_methods
from oodml.report.answer import answer, label
from tests.analysis.tables import falling, results


def test_a_sure_winner() -> None:
    found = answer(falling({"flat": 0.1, "steep": 0.4}), "birds")
    assert found.headline.startswith("On birds, flat holds up best as shift grows: 1")
    assert "ahead of steep, with" in found.headline
    assert found.sure is not None
    assert found.sure > 0.99


def test_methods_that_cannot_be_told_apart_lead_together() -> None:
    def row(method: str, split: str, shift: float, seed: int, value: float) -> tuple:
        return method, split, shift, seed, value

    places = [("0", 1.0), ("4", 2.0)]
    rows = [
        row(method, *place, seed, 0.5 + sign * 0.01 * (1 if seed else -0.9))
        for method, sign in (("a", 1), ("b", -1))
        for place in places
        for seed in range(2)
    ]
    found = answer(results(rows), "birds")
    assert found.headline == (
        "On birds, no method surely holds up better than another: a and b lie within 0.1 points "
        "of Recall@1."
    )
    rows += [row("last", *place, seed, 0.3 + 0.01 * seed) for place in places for seed in range(2)]
    found = answer(results(rows), "birds")
    assert found.headline.startswith("On birds, a and b hold up best as shift grows, within 0.1 ")
    assert "; last, the next, is 19.5 behind, with " in found.headline
    assert found.sure is None


def test_one_seed_says_that_nobody_knows() -> None:
    found = answer(falling({"flat": 0.1, "steep": 0.4}, seeds=1), "birds")
    assert found.sure is None
    assert "probability" not in found.headline
    assert "holds up best" not in found.headline
    assert any("nobody can say" in detail for detail in found.details)


def test_the_frozen_baseline_is_told_beside_the_best() -> None:
    below = falling({"flat": 0.1, "steep": 0.4, "frozen": 0.6})
    assert "frozen features 0.4" in answer(below, "birds").facts[0].of
    above = answer(falling({"flat": 0.2, "steep": 0.4, "frozen": 0.0}), "birds")
    assert "no method holds up as well as the frozen features" in above.headline
    assert "flat, the best, is" in above.headline


def test_facts_beside_baseline_and_chance() -> None:
    table = falling({"flat": 0.1, "steep": 0.4, "frozen": 0.5})
    order = compare_methods(table).set_index("method")
    score, loss, hardest = answer(table, "birds", chance=0.01).facts
    best, second, frozen = (f"{order.loc[n, 'ags']:.3f}" for n in ("flat", "steep", "frozen"))
    assert score.number == best
    assert score.of.endswith(f": next best {second}, frozen features {frozen}, chance 0.010")
    assert loss.number == f"−{order.loc['flat', 'loss']:.3f}"
    assert hardest == (
        f"{order.loc['flat', 'hardest']:.3f}",
        "on the hardest split, where it leads, too",
    )
    crossing = falling({"late": 0.0, "early": 0.0})
    crossing.loc[crossing.eval("method == 'early' and split != '30'"), "value"] += 0.05
    crossing.loc[crossing.eval("method == 'late' and split == '30'"), "value"] += 0.02
    assert "where late leads with 0.8" in answer(crossing, "birds").facts[2].of


def test_one_split_one_method_or_only_the_baseline() -> None:
    one_split = answer(results([("a", "0", 1.0, 0, 0.5), ("b", "0", 1.0, 0, 0.6)]), "birds")
    assert one_split.headline == "On birds, b has the highest Recall@1 on the one split there is."
    alone = answer(falling({"a": 0.2}), "birds")
    assert "AGS of 0.7" in alone.headline
    frozen = answer(falling({"frozen": 0.2}), "birds")
    assert frozen.headline == "Only the frozen baseline has been run."


def test_no_method_on_every_split() -> None:
    found = answer(results([("a", "0", 1.0, 0, 0.5), ("b", "4", 2.0, 0, 0.6)]), "birds")
    assert found.headline == "No method has been run on every split yet."


@pytest.mark.parametrize(
    ("metric", "written"),
    [("recall@1", "Recall@1"), ("map@r", "mAP@R"), ("map@1000", "mAP@1000"), ("nmi", "NMI"),
     ("r_precision", "R precision")],
)  # fmt: skip
def test_labels(metric: str, written: str) -> None:
    assert label(metric) == written
