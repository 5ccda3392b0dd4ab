"""Vectors of any scale, offset, and precision: the numbers of float64, within their bounds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import oodml
from oodml.cli import app
from oodml.errors import OodmlError
from oodml.evaluate.index import write_index
from oodml.evaluate.registry import check_bounds
from tests.evaluate.naive import naive_metrics

LABELS = np.repeat(np.arange(6), 10)


def sample(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((6, 8))[LABELS] + generator.standard_normal((60, 8))


def in_float64(vectors: np.ndarray, distance: str) -> dict[str, float]:
    """The metrics of a loop in float64, at a scale whose squares are finite."""
    exact = vectors.astype(np.float64)
    exact *= 2.0 ** -np.frexp(np.abs(exact).max())[1]
    return naive_metrics(exact, LABELS, distance=distance)


SCALES = (1e-40, 1e-30, 1e-24, 1e-22, 1e-10, 1.0, 1e10, 5e18, 1e20, 1e37)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("scale", [*SCALES, 1e-300, 1e-160, 1e60, 1e200])
def test_any_scale(scale: float, distance: str) -> None:
    for dtype in (np.float32, np.float64):
        if dtype == np.float32 and scale not in SCALES[1:]:
            continue
        vectors = (sample() * scale).astype(dtype)
        ours = oodml.retrieval_metrics(vectors, LABELS, distance=distance)
        assert ours == pytest.approx(in_float64(vectors, distance), abs=1e-9), dtype
        clusters = oodml.clustering_metrics(vectors, LABELS, distance=distance)
        at_one = oodml.clustering_metrics(sample(), LABELS, distance=distance)
        assert clusters == pytest.approx(at_one, abs=0.05)
        for values in (clusters, oodml.structure_metrics(vectors, LABELS)):
            for name, value in values.items():
                check_bounds(name, value)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(("dtype", "offset"), [("f4", 1e2), ("f4", 1e4), ("f8", 1e4), ("f8", 1e5)])
def test_far_from_the_origin(dtype: str, offset: float, distance: str) -> None:
    vectors = (sample() + offset).astype(dtype)
    ours = oodml.retrieval_metrics(vectors, LABELS, distance=distance)
    assert ours == pytest.approx(in_float64(vectors, distance), abs=1e-9)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_two_clusters_far_apart_and_an_outlier(dtype: str) -> None:
    apart = sample() + 1e4 * (np.arange(60) % 2)[:, None]
    ours = oodml.retrieval_metrics(apart.astype(dtype), LABELS, distance="euclidean")
    assert ours == pytest.approx(in_float64(apart.astype(dtype), "euclidean"), abs=1e-9)
    outlier = sample()
    outlier[3] *= 1e20
    values = oodml.retrieval_metrics(
        outlier.astype(dtype), LABELS, distance="euclidean", per_query=True
    )
    others = np.arange(60) != 3  # all images are equally far from the outlier
    expected = oodml.retrieval_metrics(sample(), LABELS, distance="euclidean", per_query=True)
    assert values["recall@1"][others].mean() == pytest.approx(
        expected["recall@1"][others].mean(), abs=0.05
    )


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors", ".npy"])
@pytest.mark.parametrize(
    ("change", "distance"),
    [
        (lambda x: x + 1e4, "cosine"),
        (lambda x: x + 1e8, "euclidean"),
        (lambda x: x * 1e-30, "euclidean"),
        (lambda x: x * 1e60, "cosine"),
    ],
)
def test_the_command_computes_in_the_type_of_the_file(
    tmp_path: Path, suffix: str, change: Any, distance: str
) -> None:
    vectors = change(sample())
    oodml.VectorSet(vectors, LABELS.astype(np.str_)).save(tmp_path / f"v{suffix}")
    words = ["evaluate", str(tmp_path / f"v{suffix}"), "--json", "--retrieval-only"]
    result = CliRunner().invoke(app, [*words, "--distance", distance], catch_exceptions=False)
    expected = oodml.retrieval_metrics(vectors, LABELS, distance=distance)
    assert json.loads(result.stdout)["metrics"] == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    exponent=st.floats(-30, 30),
    offset=st.floats(-1e4, 1e4),
    dtype=st.sampled_from(["f4", "f8"]),
    distance=st.sampled_from(["cosine", "euclidean"]),
)
def test_no_metric_leaves_its_bounds(
    seed: int, exponent: float, offset: float, dtype: str, distance: str
) -> None:
    vectors = ((sample(seed) + offset) * 10.0**exponent).astype(dtype)
    values = oodml.retrieval_metrics(vectors, LABELS, distance=distance)
    values |= oodml.structure_metrics(vectors, LABELS)
    values |= oodml.clustering_metrics(vectors, LABELS, distance=distance)
    for name, value in values.items():
        check_bounds(name, value)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("lengths", ["equal", "different"])
def test_a_collapsed_embedding_has_stated_values(dtype: str, lengths: str) -> None:
    labels = np.repeat(np.arange(20), 4)
    scale = np.ones(80) if lengths == "equal" else np.linspace(0.3, 7, 80)
    vectors = (scale[:, None] * np.array([0.3, 0.1, 0.7, 0.2])).astype(dtype)
    values = oodml.structure_metrics(vectors, labels)
    for name in ("intra", "inter", "alignment", "uniformity"):
        assert values[name] == 0, name
    assert np.isnan(values["density"])
    assert np.isnan(values["rho@2"])
    clusters = oodml.clustering_metrics(vectors, labels)
    assert -1 <= clusters["ami"] <= 1
    if lengths == "equal":  # else rounding orders the directions
        recalls = [oodml.retrieval_metrics(vectors, labels, seed=i)["recall@1"] for i in range(40)]
        assert np.mean(recalls) == pytest.approx(3 / 79, abs=0.03)


def test_one_collapsed_class_is_within_bounds() -> None:
    vectors = sample().astype(np.float32)
    vectors[LABELS == 2] = vectors[20]
    values = oodml.structure_metrics(vectors, LABELS)
    assert values["intra"] > 0
    assert values["density"] > 0


@pytest.mark.parametrize("seed", [-1, 2**70, 1.5, True])
def test_bad_seeds_are_refused(tmp_path: Path, seed: Any) -> None:
    vectors = oodml.VectorSet(sample(), LABELS.astype(np.str_))
    for use in (
        lambda: oodml.retrieval_metrics(sample(), LABELS, seed=seed),
        lambda: oodml.clustering_metrics(sample(), LABELS, seed=seed),
        lambda: oodml.compare(sample(), sample(), LABELS, seed=seed),
        lambda: write_index(vectors, tmp_path / "v.faiss", seed=seed),
    ):
        with pytest.raises((OodmlError, TypeError)):
            use()


def test_an_index_refuses_what_it_cannot_store(tmp_path: Path) -> None:
    for scale in (1e20, 1e-24, 1e200):
        vectors = oodml.VectorSet(sample() * scale, LABELS.astype(np.str_))
        with pytest.raises(OodmlError, match="row"):
            write_index(vectors, tmp_path / "v.faiss", distance="euclidean")
        assert write_index(vectors, tmp_path / "v.faiss").exact_recall > 0.3
    vectors = oodml.VectorSet(sample(), LABELS.astype(np.str_))
    for options in ({"kind": "hnsw", "effort": -3}, {"kind": "ivf", "effort": 0}):
        with pytest.raises(OodmlError) as caught:
            write_index(vectors, tmp_path / "w.faiss", **options)  # type: ignore[arg-type]
        assert caught.value.given == options["effort"]
