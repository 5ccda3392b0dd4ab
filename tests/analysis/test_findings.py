import pandas as pd
import pytest

from oodml.analysis.findings import Finding, findings
from tests.analysis.tables import falling, few_shot_results, results
from tests.analysis.test_structure import table as structured


def answers(table: pd.DataFrame, **more: dict[str, str]) -> list[Finding]:
    return findings(table, **more)


@pytest.mark.parametrize(
    ("slopes", "answer"),
    [
        ({"a": 0.2, "b": 0.3}, "yes"),
        ({"a": 0.2, "b": -0.3}, "no"),
        ({"a": 0.2, "b": 0.0}, "undecided"),
    ],
)
def test_quality_falls(slopes: dict[str, float], answer: str) -> None:
    assert answers(falling(slopes))[0].answer == answer


def test_spread() -> None:
    assert answers(falling({"a": 0.1, "b": 0.4}))[1].answer == "yes"
    assert answers(falling({"a": 0.1, "b": 0.4}, seeds=1))[1].answer == "undecided"
    meeting = falling({"a": 0.1, "b": 0.4})
    lift = 0.3 * (meeting["method"] == "a") * (50 - meeting["shift"]) / 40
    assert (
        answers(meeting.assign(value=meeting["value"] + lift + 0.6 * (lift > 0)))[1].answer == "no"
    )


def test_standard_split_misranks() -> None:
    crossing = falling({"a": 0.1, "b": 0.4})
    ahead = 0.05 * (crossing["method"] == "b")
    result = answers(crossing.assign(value=crossing["value"] + ahead))[2]
    assert result.answer == "yes"
    assert "b above a" in result.figures
    assert answers(falling({"a": 0.1}))[2].answer == "undecided"


@pytest.mark.parametrize(
    ("gains", "answer"), [((0.01, 0.05), "yes"), ((0.05, 0.01), "no"), ((-0.02, 0.05), "no")]
)
def test_adaptation(gains: tuple[float, float], answer: str) -> None:
    adapted = few_shot_results(
        ("m", split, shift, seed, 2, episode, 0.5, 0.5 + gain + 1e-5 * seed * shift)
        for split, shift, gain in (("0", 10.0, gains[0]), ("8", 30.0, gains[1]))
        for seed in range(3)
        for episode in range(2)
    )
    zero_shot = results(("m", split, shift, 0, 0.5) for split, shift in (("0", 10.0), ("8", 30.0)))
    assert answers(pd.concat([zero_shot, adapted]))[3].answer == answer


def test_structure() -> None:
    assert answers(structured(1.0))[5].answer == "no"
    assert answers(structured(0.0))[5].answer in ("yes", "undecided")


def test_pretraining_needs_two_networks() -> None:
    table = falling({"a": 0.1, "b": 0.4})
    assert answers(table)[6].answer == "undecided"
    figures = answers(table, backbones={"a": "lite0", "b": "lite2"})[6].figures
    assert "lite0: level" in figures
    assert "lite2: level" in figures


def test_baselines_are_not_asked() -> None:
    table = falling({"a": 0.2, "frozen": -0.5})
    assert answers(table)[0].answer == "yes"


def test_every_question_is_answered_on_a_single_number() -> None:
    result = answers(results([("m", "0", 1.0, 0, 0.5)]))
    assert [finding.answer for finding in result] == ["undecided"] * 7
    assert all(finding.question.endswith("?") for finding in result)
