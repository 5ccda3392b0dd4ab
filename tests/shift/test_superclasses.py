import numpy as np
import pytest

from oodml import OodmlError, frechet_distance, published_progression
from oodml.shift.progression import superclass_progression

GENERATOR = np.random.default_rng(0)
MEANS = GENERATOR.normal(size=(48, 6)) + np.repeat(GENERATOR.normal(size=(12, 6)), 4, axis=0)
CLASSES = [f"c{i:02d}" for i in range(48)]
# Every superclass has classes on both sides; those of one side are a unit.
SUPERCLASS = {name: f"s{i // 4 % 6}" for i, name in enumerate(CLASSES)}
SIDES = MEANS[:24], MEANS[24:], CLASSES[:24], CLASSES[24:]


def test_units_move_like_classes_in_the_published_procedure() -> None:
    result = superclass_progression(*SIDES, SUPERCLASS, 4, 1, 2)
    unit_means = [side.reshape(6, 4, 6).mean(axis=1) for side in SIDES[:2]]
    units = [[f"{side}{i}" for i in range(6)] for side in "ab"]
    members = {
        unit: tuple(CLASSES[start + 4 * i : start + 4 * i + 4])
        for start, side in ((0, units[0]), (24, units[1]))
        for i, unit in enumerate(side)
    }
    expected = published_progression(*unit_means, *units, 4, 1, 2)
    for split, by_unit in zip(result, expected, strict=True):
        assert split.train == sum((members[unit] for unit in by_unit.train), ())
        assert split.test == sum((members[unit] for unit in by_unit.test), ())
        rows = ([CLASSES.index(name) for name in side] for side in (split.train, split.test))
        assert split.shift == pytest.approx(frechet_distance(*(MEANS[side] for side in rows)))


def test_a_class_without_superclass_is_refused() -> None:
    with pytest.raises(OodmlError, match="c00"):
        superclass_progression(*SIDES, {}, 2)
