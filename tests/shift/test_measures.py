from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wasserstein_distance_nd

from oodml import OodmlError, VectorSet, frechet_distance, shift_report
from oodml.shift.measures import DEFAULT, MEASURES, Pool, _wasserstein
from tests.shift.samples import clustered

A = clustered(12, dim=6)
FAR = replace(clustered(10, dim=6, seed=1), vectors=clustered(10, dim=6, seed=1).vectors + 3)


def test_every_measure_exceeds_chance_for_shifted_sets() -> None:
    report = shift_report(A, FAR, list(MEASURES), n_bootstrap=30)
    assert (report.images, report.classes) == ((48, 40), (12, 10))
    for shift in report:
        assert shift.low is not None
        assert shift.high is not None
        assert shift.chance is not None
        assert shift.low < shift.value < shift.high
        assert shift.value > shift.chance
    assert [shift.measure for shift in shift_report(A, FAR, n_bootstrap=0)] == list(DEFAULT)


def test_sets_of_one_source_are_at_the_chance_level() -> None:
    whole = clustered(80, dim=6)
    # Alternate classes fall into different superclasses; four in a row hold one of each.
    names = whole.class_names
    halves = [whole.subset([c for i, c in enumerate(names) if i // 4 % 2 == k]) for k in (0, 1)]
    report = shift_report(*halves, ["fid_class_means", "kid", "nearest_class"], n_bootstrap=200)
    for shift in report:
        assert shift.low is not None
        assert shift.high is not None
        assert shift.chance is not None
        assert shift.low - (shift.high - shift.low) < shift.chance < 2 * shift.high - shift.low


def test_values_equal_naive_loops() -> None:
    report = shift_report(A, FAR, n_bootstrap=0)
    a, b = A.vectors.astype(float), FAR.vectors.astype(float)
    means = A.class_means(), FAR.class_means()
    assert report["fid_class_means"].value == pytest.approx(frechet_distance(*means), rel=1e-9)
    assert report["fid_images"].value == pytest.approx(frechet_distance(a, b), rel=1e-9)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 6 + 1) ** 3)

    within = [
        np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (a, b)
    ]
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert report["kid"].value == pytest.approx(sum(within) - 2 * across, rel=1e-9)
    nearest = np.mean([min(np.linalg.norm(y - x) for x in means[0]) for y in means[1]])
    others = [np.delete(means[0], place, axis=0) for place in range(12)]
    own = np.mean(
        [min(np.linalg.norm(x - z) for z in rest) for x, rest in zip(means[0], others, strict=True)]
    )
    assert report["nearest_class"].value == pytest.approx(nearest / own, rel=1e-9)


def test_wasserstein_of_one_direction_equals_optimal_transport() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(9, 1)), generator.normal(size=(9, 1)) + 1
    squared = np.mean((np.sort(a[:, 0]) - np.sort(b[:, 0])) ** 2)
    assert _wasserstein(a, b) == pytest.approx(np.sqrt(squared))
    assert _wasserstein(a, b) >= wasserstein_distance_nd(a, b) - 1e-9
    assert _wasserstein(a, np.concatenate([a, a])) == pytest.approx(0)


def test_sliced_wasserstein_of_a_translation() -> None:
    moved = replace(A, vectors=A.vectors + np.float32(2))
    result = shift_report(A, moved, ["sliced_wasserstein"], n_bootstrap=0)["sliced_wasserstein"]
    # The root mean square of a translation t along random directions is |t|/√d.
    assert result.value == pytest.approx(2, rel=0.1)


def test_extrapolation_removes_the_bias() -> None:
    generator = np.random.default_rng(0)

    def sample() -> VectorSet:
        vectors = generator.normal(size=(400, 30)).astype(np.float32)
        classes = np.array([f"c{i // 10:02d}" for i in range(400)])
        return VectorSet(vectors, classes, np.arange(400).astype(str))

    report = shift_report(sample(), sample(), ["fid_images", "fid_images_extrapolated"])
    plain, limit = report
    assert plain.value > 0.5
    assert abs(limit.value) < 0.4 * plain.value


def test_chosen_images_do_not_depend_on_order_and_cover_all_classes() -> None:
    order = np.random.default_rng(0).permutation(len(A))
    pools = [Pool(vectors, FAR, 20, seed=3) for vectors in (A, A.select(order))]
    assert len(pools[0].chosen[0]) == 20
    np.testing.assert_array_equal(
        np.sort(A.ids[pools[0].chosen[0]]), np.sort(A.select(order).ids[pools[1].chosen[0]])
    )
    assert (Pool(A, FAR, 1, seed=0).counts == 1).all()


def test_a_class_name_on_both_sides_counts_twice() -> None:
    report = shift_report(A, A, ["fid_class_means", "nearest_class"], n_bootstrap=0)
    assert report["fid_class_means"].value == pytest.approx(0, abs=1e-9)
    assert report["nearest_class"].value == pytest.approx(0, abs=1e-6)


def test_few_classes_have_no_interval_and_bad_input_is_refused() -> None:
    (shift,) = shift_report(A.subset(A.class_names[:3]), FAR, ["kid"])
    assert shift.low is None
    with pytest.raises(OodmlError, match="'kid'"):
        shift_report(A, FAR, ["kids"])
    with pytest.raises(OodmlError, match="dimensions"):
        shift_report(A, clustered(4))
    with pytest.raises(OodmlError, match="second set"):
        shift_report(A, A.subset(["c000"]))
