"""Planted drift is found, nothing is found without it, and the level is correct."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.decisions.drift import drift, mmd_permutations
from oodml.errors import OodmlError
from tests.decisions.samples import clusters


def test_the_statistic_equals_a_double_loop() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(6, 3)), draw.normal(size=(5, 3))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    value, _ = mmd_permutations(a, b, 1, draw)
    rows = [*a, *b]
    squares = [[((x - y) ** 2).sum() for y in rows] for x in rows]
    width = np.median([squares[i][j] for i in range(11) for j in range(i + 1, 11)])
    kernel = np.exp(-np.array(squares) / width)
    expected = kernel[:6, :6].mean() + kernel[6:, 6:].mean() - 2 * kernel[:6, 6:].mean()
    assert value == pytest.approx(expected)


def test_planted_clusters_are_found_and_nothing_without_them() -> None:
    sample = clusters(classes=30, each=20, width=16, noise=0.4)
    order = np.random.default_rng(0).permutation(len(sample))
    index, same = sample.select(order[:400]), sample.select(order[400:])
    quiet = drift(index, same)
    assert quiet.p > 0.05
    assert quiet.clusters == ()
    planted = clusters(classes=2, each=15, width=16, noise=0.4, seed=9)
    mixed = type(same)(
        np.concatenate([same.vectors[:100], planted.vectors]),
        np.concatenate([same.classes[:100], planted.classes]),
        np.concatenate([same.ids[:100], [f"new{row}" for row in range(30)]]),
    )
    loud = drift(index, mixed)
    assert loud.p <= 0.01
    assert loud.value > 1
    assert len(loud.clusters) == 2
    assert all(name.startswith("new") for group in loud.clusters for name in group)
    assert sum(map(len, loud.clusters)) >= 28


def test_the_level_holds_over_1000_draws() -> None:
    draw, rejected = np.random.default_rng(1), 0
    for _ in range(1000):
        value, permuted = mmd_permutations(
            draw.normal(size=(12, 4)), draw.normal(size=(10, 4)), 99, draw
        )
        rejected += (1 + (permuted >= value).sum()) / 100 <= 0.05
    assert 0.03 <= rejected / 1000 <= 0.07


def test_the_command_writes_a_page_and_an_exit_status(tmp_path: Path) -> None:
    sample = clusters(classes=10, each=12, width=16, noise=0.4)
    order = np.random.default_rng(0).permutation(len(sample))
    sample.select(order[:60]).save(tmp_path / "index.npz")
    sample.select(order[60:]).save(tmp_path / "same.npz")
    far = clusters(classes=4, each=8, width=16, noise=0.4, seed=5)
    np.savez(tmp_path / "far.npz", vectors=far.vectors)  # without labels
    index, same, new = (str(tmp_path / f"{name}.npz") for name in ("index", "same", "far"))
    page = tmp_path / "drift.html"
    arguments = ["shift", index, same, new, "--test", "--page", str(page), "--fail-above"]
    assert CliRunner().invoke(app, [*arguments, "1"]).exit_code == 1
    assert "far.npz" in page.read_text()
    assert CliRunner().invoke(app, [*arguments, "1000"]).exit_code == 0


def test_other_widths_are_refused() -> None:
    with pytest.raises(OodmlError):
        drift(clusters(width=8), clusters(width=9))
