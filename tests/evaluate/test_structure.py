import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oodml
from oodml.errors import OodmlError
from oodml.evaluate.structure import normalized_spectrum, spectral_decay

TESTED_APART = {"opis"}
"""Metrics without a naive computation here; those with a cut-off, too, have tests of their own."""


def naive(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    names = sorted(set(labels.tolist()))
    intra, aligned = [], []
    for name in names:
        pairs = list(combinations(unit[labels == name], 2))
        if pairs:
            intra.append(np.mean([1 - a @ b for a, b in pairs]))
            aligned += [((a - b) ** 2).sum() for a, b in pairs]
    centers = [unit[labels == name].mean(0) for name in names]
    centers = [center / np.linalg.norm(center) for center in centers]
    inter = np.mean([1 - a @ b for a, b in combinations(centers, 2)])
    potential = [np.exp(-2 * ((a - b) ** 2).sum()) for a, b in combinations(unit, 2)]
    return {
        "intra": float(np.mean(intra)),
        "inter": float(inter),
        "density": float(np.mean(intra) / inter),
        "alignment": float(np.mean(aligned)),
        "uniformity": float(np.log(np.mean(potential))),
    }


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(6, 60), n_classes=st.integers(2, 20))
def test_agrees_with_the_naive_loop(seed: int, n: int, n_classes: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(n_classes, size=n)
    labels[:3] = [0, 0, 1]
    vectors = generator.standard_normal((n, 5))
    ours = oodml.structure_metrics(vectors, labels)
    plain = {name: v for name, v in ours.items() if "@" not in name and name not in TESTED_APART}
    assert plain == pytest.approx(naive(vectors, labels), abs=1e-6)


def test_results_do_not_depend_on_blocks() -> None:
    generator = np.random.default_rng(0)
    vectors, labels = generator.standard_normal((1300, 4)), np.arange(1300) % 40
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    squared = 2 - 2 * unit @ unit.T
    potential = np.exp(-2 * squared[np.triu_indices(1300, 1)])
    value = oodml.structure_metrics(vectors, labels)["uniformity"]
    assert value == pytest.approx(np.log(potential.mean()), abs=1e-6)


def test_reference_values(reference: Path) -> None:
    stored = json.loads((reference / "metrics.json").read_text())
    with np.load(reference / "metrics_1500.npz") as arrays:
        vectors, labels = arrays["x"], arrays["y"]
    ours, expected = oodml.structure_metrics(vectors, labels), stored["n1641"]
    assert ours["intra"] == pytest.approx(expected["dists@intra"], abs=1e-6)
    assert ours["inter"] == pytest.approx(expected["dists@inter"], abs=1e-6)
    assert ours["density"] == pytest.approx(expected["dists@intra_over_inter"], abs=1e-6)
    # On a CPU, the original logs the spectrum without its smallest value.
    spectrum = normalized_spectrum(vectors)[:-1]
    for k in (-1, 1, 2, 10):
        value = spectral_decay(spectrum / spectrum.sum(), k)
        assert value == pytest.approx(expected[f"rho_spectrum@{k}"], abs=1e-6)


@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_reference_spectrum(reference: Path, kind: str) -> None:
    stored = json.loads((reference / "metrics.json").read_text())
    with np.load(reference / "metrics_600.npz") as arrays:
        vectors, spectrum = arrays["x"], arrays[f"{kind}_rho0_torchpath"]
        labels = arrays["y"]
    if kind == "norm":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert normalized_spectrum(vectors) == pytest.approx(spectrum / spectrum.sum(), abs=1e-6)
    ours = oodml.structure_metrics(vectors, labels)
    (name,) = (key for key in stored if key.startswith(f"{kind}_rho_torchpath"))
    for k in (-1, 1, 2, 10):
        assert ours[f"rho@{k}"] == pytest.approx(stored[name][f"rho_spectrum@{k}"], abs=1e-6)


def test_spectrum_with_few_rows_and_with_unused_directions() -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 20))
    values = np.linalg.svd(vectors, compute_uv=False)
    assert normalized_spectrum(vectors) == pytest.approx(values / values.sum())
    flat = np.concatenate([vectors[:, :3], np.zeros((6, 2))], axis=1)
    assert np.isfinite(spectral_decay(normalized_spectrum(flat), 1))
    assert np.isnan(spectral_decay(normalized_spectrum(vectors), 7))
    even = np.full(4, 0.25)
    assert spectral_decay(even, 1) == spectral_decay(even, -2) == 0
    with pytest.raises(OodmlError, match="rho@0"):
        spectral_decay(even, 0)


def test_undefined_values_are_nan() -> None:
    ours = oodml.structure_metrics(np.random.default_rng(0).standard_normal((5, 3)), range(5))
    assert np.isnan(ours["intra"])
    assert np.isnan(ours["opis"])
    alone = oodml.structure_metrics(np.random.default_rng(0).standard_normal((5, 3)), [0] * 5)
    assert np.isnan(alone["inter"])
