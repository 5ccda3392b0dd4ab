import numpy as np
import pytest

from oodml import frechet_distance
from oodml.shift.distances import CovarianceFid, GramFid, class_mean_fid


@pytest.mark.parametrize("kind", [GramFid, CovarianceFid])
@pytest.mark.parametrize(("n", "dim"), [(30, 6), (30, 50)])
def test_both_implementations_equal_the_definition(kind: type, n: int, dim: int) -> None:
    generator = np.random.default_rng(0)
    means = generator.normal(size=(n, dim)) + 5
    sides = kind(means)
    for _ in range(6):
        order = generator.permutation(n)
        cut = int(generator.integers(4, n - 8))
        train, test = order[:cut], order[cut : n - 3]
        expected = frechet_distance(means[train], means[test])
        assert sides.shift(train, test) == pytest.approx(expected, rel=1e-8)
        centres = means[train].mean(axis=0), means[test].mean(axis=0)
        to_train, to_test = (np.linalg.norm(means - centre, axis=1) for centre in centres)
        own, other = sides.margins(train, test)
        np.testing.assert_allclose(own, (to_test - to_train)[train], atol=1e-10)
        np.testing.assert_allclose(other, (to_train - to_test)[test], atol=1e-10)


def test_the_number_of_classes_selects_the_implementation() -> None:
    assert isinstance(class_mean_fid(np.zeros((20, 10))), GramFid)
    assert isinstance(class_mean_fid(np.zeros((21, 10))), CovarianceFid)
