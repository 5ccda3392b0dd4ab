from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oodml import Episode, OodmlError, Progression, Split, sample_episodes
from oodml.shift.episodes import fill_support, sample_validation
from oodml.shift.splits import find_data_problems, find_problems


def data(sizes: list[int]) -> tuple[list[str], list[str]]:
    classes = [f"c{i}" for i, size in enumerate(sizes) for _ in range(size)]
    return [f"{name}/{i}.jpg" for i, name in enumerate(classes)], classes


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=4, max_size=12), st.integers(0, 99))
def test_episodes_are_sound_and_do_not_depend_on_order(sizes: list[int], seed: int) -> None:
    ids, classes = data(sizes)
    test = sorted(set(classes))
    assume(max(sizes) >= 3 and sum(size > 1 for size in sizes) >= 2)
    result = sample_episodes(ids, classes, test, (1, 3), 4, seed)
    order = np.random.default_rng(seed).permutation(len(ids))
    shuffled = [ids[i] for i in order], [classes[i] for i in order]
    assert sample_episodes(*shuffled, test, (1, 3), 4, seed) == result
    assert sample_episodes(*shuffled, test[::-1], (3,), 4, seed)[3] == result[3]
    progression = Progression((Split(0, ("x", "y"), tuple(test), 1.0, (), result),), "p")
    assert find_problems(progression) == []
    assert find_data_problems(progression, [*ids, "x1", "y1"], [*classes, "x", "y"]) == []
    for shots, episodes in result.items():
        for episode in episodes:
            if not episode.class_wise:
                assert {len(samples) for samples in episode.support.values()} == {shots}


def test_too_few_images_give_class_wise_support() -> None:
    ids, classes = data([5] * 20)
    test = sorted(set(classes))
    two, five = (sample_episodes(ids, classes, test, (shots,), 3)[shots] for shots in (2, 5))
    assert not any(episode.class_wise for episode in two)
    assert all(episode.class_wise and len(episode.support) == 10 for episode in five)
    assert all(len(samples) == 5 for samples in five[0].support.values())
    chosen = sample_episodes(ids, classes, test, (1,), 1, class_wise=True)[1][0]
    assert len(chosen.support) == 4


def test_shots_that_no_class_can_provide_are_refused() -> None:
    ids, classes = data([5] * 20)
    with pytest.raises(OodmlError, match="c0") as error:
        sample_episodes(ids, classes, sorted(set(classes)), (2, 50), 3)
    assert (error.value.location, error.value.given) == ("shots", 50)


def test_classes_with_one_image_are_never_class_wise_support() -> None:
    ids, classes = data([6, 6, 1, 1, 6, 1, 1, 1])
    test = sorted(set(classes))
    for episode in sample_episodes(ids, classes, test, (2,), 20)[2]:
        assert episode.class_wise
        assert min(map(len, episode.support.values())) == 6
    ids, classes = data([6, 1, 1, 1, 1])
    with pytest.raises(OodmlError, match="'c1'") as error:
        sample_episodes(ids, classes, sorted(set(classes)), (2,))
    assert error.value.location == "shots"


def test_a_class_with_too_few_images_gives_no_support() -> None:
    ids, classes = data([9, 9, 9, 2])
    (episode,) = sample_episodes(ids, classes, sorted(set(classes)), (2,), 1)[2]
    assert sorted(episode.support) == ["c0", "c1", "c2"]


def test_different_seeds_episodes_and_shots_differ() -> None:
    ids, classes = data([30] * 4)
    result = [sample_episodes(ids, classes, ["c0", "c1"], (5,), 2, seed)[5] for seed in (0, 1)]
    drawn = [episode.support["c0"] for episodes in result for episode in episodes]
    assert len(set(map(frozenset, drawn))) == 4


@settings(deadline=None)
@given(st.integers(2, 200), st.floats(0, 0.99), st.integers(0, 9))
def test_validation_classes_are_some_of_the_train_classes(n: int, share: float, seed: int) -> None:
    train = [f"c{i}" for i in range(n)]
    result = sample_validation(train, share, seed)
    assert list(result) == [name for name in train if name in set(result)]
    assert len(result) < n
    if share > 0:
        assert abs(len(result) - share * n) <= 1
    assert set(sample_validation(train[::-1], share, seed)) == set(result)


def test_published_names_are_matched_to_ids() -> None:
    split = Split(1, ("a", "b"), ("c", "d"), 1.0)
    ids = ["train/c/1.jpg", "train/d/1.jpg", "train/d/2.jpg", "a", "b"]
    classes = ["c", "d", "d", "a", "b"]
    named, wise = Episode({"d": ("2.jpg",)}), Episode({"d": ()}, class_wise=True)
    splits = (replace(split, episodes={1: (named, wise)}),)
    result = fill_support(Progression(splits, "p"), ids, classes)[0].episodes[1]
    assert result[0].support == {"d": ("train/d/2.jpg",)}
    assert result[1].support == {"d": ("train/d/1.jpg", "train/d/2.jpg")}
    wrong = (replace(split, episodes={1: (Episode({"d": ("9.jpg",)}),)}),)
    with pytest.raises(OodmlError, match=r"9\.jpg"):
        fill_support(Progression(wrong, "p"), ids, classes)


def test_bad_input_is_refused() -> None:
    ids, classes = data([3, 3])
    with pytest.raises(OodmlError, match="'q'"):
        sample_episodes(ids, classes, ["q"], (1,))
    with pytest.raises(OodmlError, match="shots"):
        sample_episodes(ids, classes, ["c0"], (0,))
    with pytest.raises(OodmlError, match="shots"):
        sample_episodes(ids, classes, ["c0", "c1"], (5,))
    with pytest.raises(OodmlError, match="validation"):
        sample_validation(["a", "b"], 1.0)
