"""Collapsed embeddings have no shift: an error or an undefined value, never an exception."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from oodml import OodmlError, VectorSet, shift_report
from oodml.cli import app
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.splits import check


def vector_set(means: Any, n_images: int = 3) -> VectorSet:
    classes = np.array([f"c{i:02d}" for i in range(len(means))]).repeat(n_images)
    vectors = np.repeat(np.asarray(means, np.float32), n_images, axis=0)
    return VectorSet(vectors, classes, np.arange(len(classes)).astype(str))


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-20, 1e4])
@pytest.mark.parametrize("procedure", ["exact", "published"])
def test_splits_of_equal_class_means_are_refused(value: float, procedure: str) -> None:
    vectors = vector_set(np.full((20, 8), value))
    with pytest.raises(OodmlError) as error:
        build_progression(vectors, SplitSettings(procedure=procedure))
    assert error.value.location == "vectors"


def test_an_offset_is_not_a_collapse() -> None:
    means = np.random.default_rng(0).normal(size=(12, 6)) + 1e4
    progression = build_progression(vector_set(means), SplitSettings())
    assert progression[-1].shift > progression[0].shift


@settings(deadline=None, max_examples=50)
@given(
    st.integers(4, 12),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 999),
    st.sampled_from(["exact", "published"]),
)
def test_few_distinct_means_are_refused_or_give_consistent_splits(
    n: int, distinct: int, dim: int, seed: int, procedure: str
) -> None:
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(distinct, dim))
    vectors = vector_set(centers[generator.integers(0, distinct, n)])
    try:
        progression = build_progression(vectors, SplitSettings(procedure=procedure))
    except OodmlError as error:
        assert error.location == "vectors"  # noqa: PT017
        return
    check(progression)
    assert all(split.shift >= 0 for split in progression)
    assert 0 in [split.step for split in progression]


def test_one_distinct_test_class_is_searched() -> None:
    """The sides have no covariance in common, so that no singular value is positive."""
    means = np.zeros((8, 4))
    means[-1] = 1
    progression = build_progression(vector_set(means), SplitSettings(procedure="exact"))
    check(progression)


def test_undefined_measures_are_none(tmp_path: Path) -> None:
    collapsed, other = vector_set(np.ones((6, 4))), vector_set(np.eye(6)[:, :4])
    report = shift_report(collapsed, other, n_bootstrap=10)
    assert report["nearest_class"].value is None
    assert report["fid_class_means"].value is not None
    collapsed.save(tmp_path / "a.npz")
    other.save(tmp_path / "b.npz")
    files = [str(tmp_path / name) for name in ("a.npz", "b.npz")]
    printed = CliRunner().invoke(app, ["shift", *files, "--json", "--resamples", "10"])
    assert printed.exit_code == 0, printed.output
    values = {row["measure"]: row["value"] for row in json.loads(printed.stdout)["measures"]}
    assert values["nearest_class"] is None
    assert "NaN" not in printed.stdout
    table = CliRunner().invoke(app, ["shift", *files, "--resamples", "10"])
    assert "undefined" in table.stdout
