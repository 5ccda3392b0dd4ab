import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodml.analysis.intervals import aggregated_generalization_score, ags_weights
from oodml.analysis.paper_results import published_results
from oodml.errors import OodmlError

points = st.lists(
    st.tuples(st.integers(0, 300), st.floats(0, 1)),
    min_size=2,
    max_size=12,
    unique_by=lambda point: point[0],
)


def test_all_published_bars() -> None:
    results = published_results()
    bars = [
        (data, method, score)
        for data, scores in results["ags_recall_at_1"].items()
        for method, score in scores.items()
    ]
    assert len(bars) == 24
    for data, method, score in bars:
        curve = results["recall_at_1"][data][method]
        result = aggregated_generalization_score(results["fid"][data], curve)
        assert result == pytest.approx(score, abs=3e-4), (data, method)


def test_shipped_facts_are_the_reference(reference: Path) -> None:
    assert json.loads((reference / "published_results.json").read_text()) == published_results()


@given(points)
def test_equals_the_trapezoid_rule(pairs: list[tuple[int, float]]) -> None:
    shift, value = zip(*sorted(pairs), strict=True)
    span = shift[-1] - shift[0]
    naive = 0.0
    for k in range(len(shift) - 1):
        naive += (shift[k + 1] - shift[k]) / span * (value[k] + value[k + 1]) / 2
    unsorted = pairs[::-1]
    result = aggregated_generalization_score(*zip(*unsorted, strict=True))
    assert result == pytest.approx(naive, abs=1e-12)


@given(points, st.floats(0.1, 10), st.floats(-5, 5))
def test_the_unit_of_shift_does_not_matter(
    pairs: list[tuple[int, float]], scale: float, offset: float
) -> None:
    shift, value = (np.array(column) for column in zip(*pairs, strict=True))
    result = aggregated_generalization_score(shift * scale + offset, value)
    assert result == pytest.approx(aggregated_generalization_score(shift, value), abs=1e-9)


def test_a_flat_curve_scores_its_value() -> None:
    assert aggregated_generalization_score([3.0, 1.0, 7.0], [0.4] * 3) == pytest.approx(0.4)


def test_splits_of_equal_shift_share_their_weight() -> None:
    weights = ags_weights([1.0, 2.0, 2.0, 3.0])
    np.testing.assert_allclose(weights, [0.25, 0.25, 0.25, 0.25])


@pytest.mark.parametrize(
    ("shift", "value", "location"),
    [
        ([1.0], [0.5], "shift"),
        ([2.0, 2.0], [0.5, 0.6], "shift"),
        ([1.0, float("nan")], [0.5, 0.6], "shift"),
        ([1.0, 2.0], [float("inf"), 0.6], "value"),
        ([1.0, 2.0, 3.0], [0.5, 0.6], "value"),
        ([[1.0, 2.0]], [0.5, 0.6], "shift"),
    ],
)
def test_bad_input(shift: list[float], value: list[float], location: str) -> None:
    with pytest.raises(OodmlError) as error:
        aggregated_generalization_score(shift, value)
    assert error.value.location == location
