from dataclasses import replace

import numpy as np
import pytest

from oodml import OodmlError, Progression
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.controls import backbone_agreement
from tests.shift.samples import clustered

FEATURES = clustered(20)
SPLITS = build_progression(FEATURES, SplitSettings(n_splits=6, harder=20))


def test_scaled_and_rotated_features_agree() -> None:
    rotated = replace(FEATURES, vectors=3 * FEATURES.vectors[:, ::-1])
    other = clustered(20, seed=9)
    agreement = backbone_agreement(SPLITS, {"a": FEATURES, "b": rotated, "c": other})
    np.testing.assert_allclose(agreement.normalized[0], agreement.normalized[1], atol=1e-6)
    np.testing.assert_allclose(agreement.shifts[1], 9 * agreement.shifts[0], rtol=1e-5)
    assert agreement.spearman[0, 1] == pytest.approx(1)
    assert agreement.kendall[0, 1] == pytest.approx(1)
    assert agreement.kendall[0, 2] < 1
    assert (agreement.normalized.min(), agreement.normalized.max()) == (0, 1)
    assert agreement.largest_gap > 0


def test_one_network_or_one_split_is_refused() -> None:
    with pytest.raises(OodmlError, match="backbones"):
        backbone_agreement(SPLITS, {"a": FEATURES})
    with pytest.raises(OodmlError, match="splits"):
        backbone_agreement(Progression(SPLITS.splits[:1], "x"), {"a": FEATURES, "b": FEATURES})
