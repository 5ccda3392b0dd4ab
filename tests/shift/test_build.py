from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from oodml import ImageSet, OodmlError, VectorSet, exact_progression, published_progression
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.measures import MEASURES, Measure, class_mean_shift, register
from oodml.shift.splits import check, partition_train_classes, recorded_features
from tests.shift.samples import clustered

DATA = clustered(30)


def built(vectors: VectorSet = DATA, **settings: Any) -> Any:
    return build_progression(vectors, SplitSettings(**settings), (1, 2), 3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"procedure": "published"},
        {"procedure": "published", "removal": 4, "swaps": 1, "history": 2},
        {"procedure": "published", "unit": "superclass", "swaps": 1},
        {"train_superclasses": ("s0", "s2")},
        {"image_tolerance": 0.0},
    ],
)
def test_progressions_are_consistent_and_reproducible(settings: dict[str, Any]) -> None:
    progression = built(**settings)
    check(progression, DATA.ids.tolist(), DATA.classes.tolist())
    assert built(**settings) == progression
    shifts = [split.shift for split in progression]
    assert shifts == sorted(shifts)
    assert 2 <= len(progression) <= 5
    for split in progression:
        assert len(split.validation) == round(0.25 * len(split.train) + 1e-9)
        assert {shots: len(drawn) for shots, drawn in split.episodes.items()} == {1: 3, 2: 3}
    assert (progression.data, progression.seed) == ("made up", 0)


def test_procedures_equal_the_functions() -> None:
    means, names = DATA.class_means(), list(DATA.class_names)
    exact = exact_progression(means, names, None)
    result = built(n_splits="all")
    assert {s.step: s.train for s in result} == {s.step: s.train for s in exact}
    published = published_progression(means[:15], means[15:], names[:15], names[15:], 4)
    result = built(procedure="published", harder=4, easier=0, n_splits="all")
    assert {s.step: s.test for s in result} == {s.step: s.test for s in published}


def test_wanted_steps_are_returned() -> None:
    result = built(procedure="published", harder=4, easier=3, removal=3, steps=(0, "-2", "R4"))
    assert {split.step for split in result} == {0, -2, "R4"}
    with pytest.raises(OodmlError) as error:
        built(procedure="published", harder=4, easier=3, steps=("R99",))
    assert (error.value.location, error.value.given) == ("splits.steps", "R99")
    assert error.value.allowed == ("-4", "-2", "0", "2", "4", "6")


@pytest.mark.parametrize("n_splits", [1, 2, 3, 5])
@pytest.mark.parametrize("procedure", ["exact", "published"])
def test_step_0_is_always_among_the_splits(n_splits: int, procedure: str) -> None:
    every = built(procedure=procedure, n_splits="all")
    result = built(procedure=procedure, n_splits=n_splits)
    assert len(result) == n_splits
    assert 0 in [split.step for split in result]
    assert [split.shift for split in result] == sorted(split.shift for split in result)
    if n_splits > 2:
        assert (result[0], result[-1]) == (every[0], every[-1])


def test_settings_record_the_input_of_the_features() -> None:
    source = {"backbone": "lite0", "image_size": 64, "weights": "own", "augmentation": "base"}
    result = build_progression(replace(DATA, source=source), SplitSettings())
    assert recorded_features(result) == {
        "image_size": 64, "weights": "own", "augmentation": "base",
    }  # fmt: skip
    assert result.backbone == "lite0"
    assert recorded_features(built()) == {}


@pytest.mark.parametrize("procedure", ["exact", "published"])
def test_another_measure_drives_the_progression(procedure: str) -> None:
    settings = {"procedure": procedure, "harder": 3, "easier": 0, "n_splits": "all"}
    result = built(measure="nearest_class", **settings)
    assert result.shift_measure == "nearest_class"
    means = dict(zip(DATA.class_names, DATA.class_means(), strict=True))
    for split in result:
        sides = ([means[name] for name in side] for side in (split.train, split.test))
        expected = class_mean_shift(*map(np.array, sides), "nearest_class")
        assert split.shift == pytest.approx(expected, rel=1e-9)
    if procedure == "exact":
        assert [s.shift for s in result] == sorted(s.shift for s in result)
        assert len(result) > 1


def test_a_new_measure_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean_offset(means: np.ndarray) -> Measure:
        """Distance between the centers of the two sides."""

        def value(first: np.ndarray, second: np.ndarray) -> float:
            return float(np.linalg.norm(means[first].mean(0) - means[second].mean(0)))

        return Measure(value, "distance between the centers")

    monkeypatch.setattr("oodml.shift.measures.MEASURES", dict(MEASURES))
    register("class means")(mean_offset)
    result = built(measure="mean_offset", harder=2, easier=0)
    assert result[0].shift < result[-1].shift
    with pytest.raises(OodmlError) as error:
        built(measure="kid")
    assert error.value.given == "kid"


@pytest.mark.parametrize("n", [4, 5, 6, 9])
@pytest.mark.parametrize("procedure", ["auto", "published"])
def test_tiny_collections_work(n: int, procedure: str) -> None:
    small = clustered(n, n_images=3)
    progression = build_progression(small, SplitSettings(procedure=procedure))
    check(progression)
    assert len(progression) >= 1


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"train_superclasses": ("s9",)}, "s9"),
        ({"train_superclasses": ("s0",), "train_classes": ("c000",)}, "splits.train_classes"),
        ({"train_classes": ("q", "c000")}, "'q'"),
        ({"train_classes": ("q", "c000"), "procedure": "published"}, "'q'"),
        ({"procedure": "exact", "removal": 3}, "splits.removal"),
        ({"procedure": "exact", "unit": "superclass"}, "splits.unit"),
        ({"procedure": "published", "ends": (1.0, 2.0)}, "splits.ends"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(OodmlError, match=word):
        built(**settings)


def test_unknown_keys_and_too_few_classes_are_refused() -> None:
    with pytest.raises(ValidationError, match="hardnes"):
        SplitSettings(hardnes=3)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="n_splits"):
        SplitSettings(n_splits=0)
    with pytest.raises(OodmlError, match="3 classes"):
        built(DATA.subset(DATA.class_names[:3]))


def test_the_own_partition_of_a_data_set_is_the_start() -> None:
    partition = np.where(np.isin(DATA.classes, DATA.class_names[::2]), "train", "test")
    pixels = np.zeros((len(DATA), 2, 2), dtype=np.uint8)
    images = ImageSet("x", DATA.ids, DATA.classes, pixels=pixels, partition=partition)
    settings = SplitSettings(procedure="published", harder=1, easier=0)
    (result,) = build_progression(DATA, settings, images=images)
    assert result.train == DATA.class_names[::2]
    assert partition_train_classes(DATA.classes, None) is None
    partition[0] = "test"
    with pytest.raises(OodmlError, match="c000"):
        partition_train_classes(DATA.classes, partition)
