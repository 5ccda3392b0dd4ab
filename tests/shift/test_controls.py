import math

import numpy as np
import pytest

from oodml import OodmlError, Progression, Split, frechet_distance, size_matched
from oodml.shift.controls import remeasure, size_controls
from tests.shift.samples import clustered

FEATURES = clustered(24)
NAMES = FEATURES.class_names
STANDARD = Split(0, NAMES[:12], NAMES[12:], 1.0)
SMALL = Split("R6", NAMES[2:9], NAMES[14:20], 2.0)


def shift_of(split: Split) -> float:
    means = FEATURES.class_means()
    rows = ([NAMES.index(name) for name in side] for side in (split.train, split.test))
    return frechet_distance(*(means[side] for side in rows))


def test_a_control_has_the_sizes_of_its_split() -> None:
    controls = [size_matched(SMALL, seed, STANDARD, FEATURES) for seed in range(4)]
    for control in controls:
        assert (len(control.train), len(control.test)) == (7, 6)
        assert set(control.train) <= set(STANDARD.train)
        assert set(control.test) <= set(STANDARD.test)
        assert control.shift == pytest.approx(shift_of(control), rel=1e-9)
    assert len({control.train for control in controls}) == 4
    assert controls[1].step == "R6 control 1"
    assert size_matched(SMALL, 1, STANDARD, FEATURES) == controls[1]


def test_without_a_standard_split_the_classes_are_permuted() -> None:
    control = size_matched(SMALL, 0)
    assert sorted(control.train + control.test) == sorted(SMALL.train + SMALL.test)
    assert len(control.train) == 7
    assert math.isnan(control.shift)
    with pytest.raises(OodmlError, match="12 train classes"):
        size_matched(STANDARD, 0, SMALL)


def test_smaller_splits_of_a_progression_get_controls() -> None:
    result = size_controls(Progression((STANDARD, SMALL), "removal"), FEATURES, (0, 5))
    assert [split.step for split in result] == ["R6 control 0", "R6 control 5"]
    late = Progression((Split("R2", NAMES[:11], NAMES[12:], 1.0), SMALL), "removal")
    assert len(size_controls(late, FEATURES, (0,))) == 1


def test_remeasure_changes_only_the_shift() -> None:
    result = remeasure(Progression((STANDARD, SMALL), "removal"), FEATURES)
    assert [split.train for split in result] == [STANDARD.train, SMALL.train]
    np.testing.assert_allclose([s.shift for s in result], [shift_of(STANDARD), shift_of(SMALL)])
    strange = Progression((Split(0, ("q",), NAMES, 1.0),), "x")
    with pytest.raises(OodmlError, match="'q'"):
        remeasure(strange, FEATURES)
