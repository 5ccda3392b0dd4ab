from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml import OodmlError, published_progression, removal_progression
from oodml.shift.distances import CovarianceFid
from oodml.shift.progression import _Candidates
from oodml.shift.splits import Progression

Small = tuple[Any, Callable[..., Progression]]


@pytest.fixture
def small(reference: Path) -> Any:
    return np.load(reference / "splits_small.npz")


def start_of(small: Any) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    return (
        small["train_means"],
        small["test_means"],
        small["train_cls"].tolist(),
        small["test_cls"].tolist(),
    )


def assert_equal(result: Progression, small: Any, tag: str) -> None:
    assert len(result) == len(small[f"{tag}_keys"])
    for i, split in enumerate(result):
        assert list(split.train) == [name for name in small[f"{tag}_train"][i] if name]
        assert list(split.test) == [name for name in small[f"{tag}_test"][i] if name]
        assert split.shift == pytest.approx(small[f"{tag}_fids"][i], rel=1e-3)


@pytest.mark.parametrize(
    ("tag", "options"),
    [
        ("hard", {}),
        ("hard1", {"iterations": 12, "swaps_per_iteration": 1}),
        ("hard7", {"iterations": 8, "swaps_per_iteration": 7}),
        ("easy", {"iterations": 15, "easier": True}),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_class_lists_equal_the_original_code(
    small: Any, tag: str, options: dict[str, Any], many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr("oodml.shift.progression.class_mean_fid", CovarianceFid)
    result = published_progression(*start_of(small), **options)
    assert_equal(result, small, tag)
    assert [split.step for split in result] == small[f"{tag}_keys"].tolist()


@pytest.mark.parametrize("many", [False, True])
def test_removal_equals_the_original_code(
    small: Any, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_means, test_means, train, test = start_of(small)
    mean_of = dict(zip(train + test, np.concatenate([train_means, test_means]), strict=True))
    hard = published_progression(train_means, test_means, train, test)[-1]
    if many:
        monkeypatch.setattr("oodml.shift.progression.class_mean_fid", CovarianceFid)
    rows = [np.array([mean_of[name] for name in side]) for side in (hard.train, hard.test)]
    result = removal_progression(*rows, hard.train, hard.test, 16)
    assert_equal(result, small, "removed")
    assert [split.step for split in result][:3] == ["R0", "R2", "R4"]


@settings(deadline=None, max_examples=30)
@given(st.integers(9, 20), st.integers(9, 20), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_no_class_is_lost_or_repeated(n: int, m: int, swaps: int, easier: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(n + m)]
    means = generator.normal(size=(n + m, 5))
    before = means.copy()
    result = published_progression(means[:n], means[n:], names[:n], names[n:], 6, swaps, 5, easier)
    for split in result:
        assert sorted(split.train + split.test) == sorted(names)
        assert (len(split.train), len(split.test)) == (n, m)
    np.testing.assert_array_equal(means, before)
    removed = removal_progression(means[:n], means[n:], names[:n], names[n:], 3, swaps, 5)
    for split in removed:
        assert set(split.train).isdisjoint(split.test)
        assert {*split.train, *split.test} <= set(names)
        assert len(set(split.train)) == len(split.train)


def test_positions_are_skipped_not_classes() -> None:
    candidates = _Candidates(count=1, history=1, easier=False)
    margins = np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0])
    assert candidates.pairs(*margins) == [(0, 2)]
    assert candidates.pairs(*margins) == [(1, 1)]
    assert candidates.pairs(*margins) == [(0, 2)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"train_classes": ["a", "b", "b"]}, "class 'b'"),
        ({"test_classes": ["a", "y", "z"]}, "class 'a'"),
        ({"train_classes": ["a", "b"]}, "train_classes"),
        ({"history": 3}, "history"),
        ({"iterations": 0}, "iterations"),
        ({"swaps_per_iteration": 4}, "swaps_per_iteration"),
        ({"test_means": np.zeros((3, 4))}, "dimensions"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], word: str) -> None:
    means = np.random.default_rng(0).normal(size=(6, 2))
    given: dict[str, Any] = {
        "train_means": means[:3],
        "test_means": means[3:],
        "train_classes": ["a", "b", "c"],
        "test_classes": ["x", "y", "z"],
    }
    with pytest.raises(OodmlError) as error:
        published_progression(**(given | change))
    assert word in f"{error.value.location} {error.value}"


def test_removal_is_refused_when_no_classes_are_left() -> None:
    means = np.random.default_rng(0).normal(size=(8, 3))
    with pytest.raises(OodmlError, match="iterations"):
        removal_progression(means[:4], means[4:], list("abcd"), list("wxyz"), 9, 1, 1)
