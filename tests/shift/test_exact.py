from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml import OodmlError, exact_progression, frechet_distance
from oodml.shift.distances import GramFid
from oodml.shift.exact import evenly_spaced, swap_shifts
from oodml.shift.splits import Split
from tests.shift.samples import clustered


def swapped(train: np.ndarray, test: np.ndarray, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    train, test = train.copy(), test.copy()
    train[i], test[j] = test[j], train[i]
    return train, test


@pytest.mark.parametrize(("n", "m", "dim"), [(7, 9, 40), (9, 7, 40), (12, 12, 5), (4, 11, 6)])
def test_estimates_of_all_swaps_equal_separate_computations(n: int, m: int, dim: int) -> None:
    means = np.random.default_rng(0).normal(size=(n + m, dim))
    train, test = np.arange(n), np.arange(n, n + m)
    sides = GramFid(means)
    result = swap_shifts(sides.gram, train, test)
    each = [[sides.shift(*swapped(train, test, i, j)) for j in range(m)] for i in range(n)]
    np.testing.assert_allclose(result, each, atol=1e-3 * np.ptp(each), rtol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_each_step_is_the_best_of_all_swaps(sign: int) -> None:
    means = np.random.default_rng(1).normal(size=(14, 30))
    names = [f"c{i:02d}" for i in range(14)]
    limits = {"harder": 3, "easier": 0} if sign > 0 else {"harder": 0, "easier": 3}
    result = exact_progression(means, names, None, patience=0, **limits)
    path = list(result)[::sign]
    assert [split.step for split in path] == [sign * swaps for swaps in range(len(path))]
    assert len(path) >= 3
    for before, after in zip(path, [*path[1:], None], strict=True):
        train = np.array([names.index(name) for name in before.train])
        test = np.array([names.index(name) for name in before.test])
        every = [
            frechet_distance(*(means[side] for side in swapped(train, test, i, j)))
            for i in range(7)
            for j in range(7)
        ]
        best = max(every, key=lambda shift: sign * shift)
        if after is not None:
            assert after.shift == pytest.approx(best, rel=1e-9)
        elif len(path) < 4:
            assert sign * best <= sign * before.shift


@pytest.mark.parametrize(
    ("tag", "limits"),
    [
        ("hard", {"harder": 48, "easier": 0}),
        ("hard1", {"harder": 11, "easier": 0}),
        ("hard7", {"harder": 49, "easier": 0}),
        ("easy", {"harder": 0, "easier": 28}),
    ],
)
def test_reaches_beyond_the_published_procedure(
    reference: Path, tag: str, limits: dict[str, int]
) -> None:
    small = np.load(reference / "splits_small.npz")
    train = small["train_cls"].tolist()
    means = np.concatenate([small["train_means"], small["test_means"]])
    result = exact_progression(
        means, train + small["test_cls"].tolist(), None, train=train, **limits
    )
    if tag == "easy":
        assert result[0].shift < small["easy_fids"].min()
    else:
        assert result[-1].shift > small[f"{tag}_fids"].max()
    assert len(result) - 1 <= max(limits.values())


@settings(deadline=None, max_examples=10)
@given(st.integers(4, 14), st.integers(0, 99), st.sampled_from([None, 0.0, 0.3]))
def test_limits_are_respected(n: int, seed: int, tolerance: float | None) -> None:
    generator = np.random.default_rng(seed)
    names = [f"c{i:02d}" for i in range(n)]
    images = generator.integers(1, 9, n)
    result = exact_progression(
        generator.normal(size=(n, 4)), names, None, images=images, image_tolerance=tolerance
    )
    count = dict(zip(names, images.tolist(), strict=True))
    start = sum(count[name] for name in names[: n // 2])
    steps = [split.step for split in result]
    assert steps == list(range(min(steps), max(steps) + 1))
    for split in result:
        assert sorted(split.train + split.test) == names
        assert len(split.train) == n // 2
        if tolerance is not None:
            assert abs(sum(count[name] for name in split.train) - start) <= tolerance * start


def test_splits_are_evenly_spaced_between_the_ends() -> None:
    means, names = clustered(36).class_means(), clustered(36).class_names
    whole = exact_progression(means, names, None)
    low, high = min(s.shift for s in whole), max(s.shift for s in whole)
    middle = (low + (high - low) / 4, high - (high - low) / 4)
    some = exact_progression(means, names, 4, ends=middle)
    gaps = np.diff([split.shift for split in some])
    assert len(some) == 4
    assert gaps.min() > 0.4 * gaps.max()
    assert some[0].shift == pytest.approx(middle[0], abs=0.1 * (high - low))
    with pytest.raises(OodmlError, match="ends"):
        exact_progression(means, names, 4, ends=(low, 2 * high))


def test_evenly_spaced_includes_the_ends_and_repeats_no_split() -> None:
    splits = [Split(i, ("a",), ("b",), shift) for i, shift in enumerate([1.0, 1.1, 1.2, 9.0])]
    assert [split.step for split in evenly_spaced(splits, 3)] == [0, 2, 3]
    assert [split.step for split in evenly_spaced(splits[::-1], 9)] == [0, 1, 2, 3]
    with pytest.raises(OodmlError, match="n_splits"):
        evenly_spaced(splits, 0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"train": ["c0", "q"]}, "'q'"),
        ({"train": ["c0"]}, "1 train"),
        ({"image_tolerance": 0.1}, "images"),
        ({"classes": ["c0", "c0", "c1", "c2"]}, "c0"),
        ({"classes": ["c0"]}, "1 classes"),
    ],
)
def test_bad_input_is_refused(options: dict, word: str) -> None:
    given = {"means": np.eye(4), "classes": ["c0", "c1", "c2", "c3"]}
    with pytest.raises(OodmlError, match=word):
        exact_progression(**(given | options))
