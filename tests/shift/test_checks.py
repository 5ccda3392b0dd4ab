from dataclasses import replace
from typing import Any

import pytest

from oodml import Episode, OodmlError, Progression, Split
from oodml.shift.checks import check, data_problems, problems
from oodml.shift.files import check_against

SPLIT = Split(0, ("a", "b"), ("c", "d"), 1.0, ("b",), {1: (Episode({"c": ("c1",)}),)})
IDS = ["a1", "b1", "c1", "c2", "d1"]
CLASSES = ["a", "b", "c", "c", "d"]


def of(**change: Any) -> Progression:
    return Progression((replace(SPLIT, **change),), "published")


def test_a_sound_progression_has_no_problem() -> None:
    check(of(), IDS, CLASSES)
    assert problems(of()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": ("b", "c", "d")}, "class 'b' is on both sides"),
        ({"train": ("a", "b", "b")}, "class 'b' is named twice among the train"),
        ({"test": ()}, "no test classes"),
        ({"shift": float("nan")}, "not a finite number"),
        ({"validation": ("c",)}, "validation class 'c' is not a train class"),
        ({"validation": ("a", "b")}, "every train class is a validation class"),
        ({"episodes": {1: (Episode({"a": ("a1",)}),)}}, "support class 'a' is not a test class"),
        ({"episodes": {1: (Episode({"c": ()}),)}}, "no support sample of class 'c'"),
        ({"episodes": {1: (Episode({"c": ("c1", "c1")}),)}}, "'c1' of class 'c' is named twice"),
        ({"episodes": {1: (Episode({}),)}}, "no support"),
        (
            {"episodes": {1: (Episode({"c": (), "d": ()}, class_wise=True),)}},
            "no class is left to query",
        ),
    ],
)
def test_each_violation_is_named(change: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in problems(of(**change)))
    with pytest.raises(OodmlError, match="step 0"):
        check(of(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": ("a", "x")}, "class 'x' is not in the data"),
        ({"episodes": {1: (Episode({"c": ("c9",)}),)}}, "support sample 'c9' of class 'c' is not"),
        ({"episodes": {1: (Episode({"c": ("d1",)}),)}}, "is of 'd', where it would be a query"),
        (
            {"episodes": {1: (Episode({"c": ("c1", "c2"), "d": ("d1",)}),)}},
            "every test image is support",
        ),
    ],
)
def test_each_violation_against_the_data_is_named(change: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in data_problems(of(**change), IDS, CLASSES))
    with pytest.raises(OodmlError):
        check_against(of(**change), IDS, CLASSES)


def test_no_split_and_a_step_twice() -> None:
    assert problems(Progression((), "x")) == ["there is no split"]
    assert problems(Progression((SPLIT, SPLIT), "x")) == ["step 0 is there twice"]
