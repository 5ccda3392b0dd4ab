from dataclasses import replace
from typing import Any

import pytest

from oodml import Episode, OodmlError, Progression, Split
from oodml.shift.splits import check, find_data_problems, find_problems

SPLIT = Split(0, ("a", "b"), ("c", "d"), 1.0, ("b",), {1: (Episode({"c": ("c1",)}),)})
IDS = ["a1", "b1", "c1", "c2", "d1"]
CLASSES = ["a", "b", "c", "c", "d"]


def of(**change: Any) -> Progression:
    return Progression((replace(SPLIT, **change),), "published")


def test_a_consistent_progression_has_no_problem() -> None:
    check(of(), IDS, CLASSES)
    assert find_problems(of()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": ("b", "c", "d")}, "class 'b'"),
        ({"train": ("a", "b", "b")}, "class 'b'"),
        ({"test": ()}, "no test classes"),
        ({"shift": float("nan")}, "finite"),
        ({"validation": ("c",)}, "validation class 'c'"),
        ({"validation": ("a", "b")}, "validation"),
        ({"episodes": {1: (Episode({"a": ("a1",)}),)}}, "support class 'a'"),
        ({"episodes": {1: (Episode({"c": ()}),)}}, "class 'c'"),
        ({"episodes": {1: (Episode({"c": ("c1", "c1")}),)}}, "'c1' of class 'c'"),
        ({"episodes": {1: (Episode({}),)}}, "no support"),
        (
            {"episodes": {1: (Episode({"c": (), "d": ()}, class_wise=True),)}},
            "queries",
        ),
    ],
)
def test_each_problem_is_found(change: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in find_problems(of(**change)))
    with pytest.raises(OodmlError, match="step 0"):
        check(of(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": ("a", "x")}, "class 'x'"),
        ({"episodes": {1: (Episode({"c": ("c9",)}),)}}, "'c9' of class 'c'"),
        ({"episodes": {1: (Episode({"c": ("d1",)}),)}}, "'d1' of class 'c'"),
        (
            {"episodes": {1: (Episode({"c": ("c1", "c2"), "d": ("d1",)}),)}},
            "query",
        ),
    ],
)
def test_each_mismatch_with_the_data_is_found(change: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in find_data_problems(of(**change), IDS, CLASSES))
    with pytest.raises(OodmlError):
        check(of(**change), IDS, CLASSES)


def test_no_split_and_a_step_twice() -> None:
    assert len(find_problems(Progression((), "x"))) == 1
    (problem,) = find_problems(Progression((SPLIT, SPLIT), "x"))
    assert "step 0" in problem
