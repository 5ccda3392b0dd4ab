"""The published procedures and the exact search compared with one FID as others compute it.

    python benchmarks/shift.py [--dim 2048] [--swaps 24]

200 random class means (clustered, nonnegative as after a ReLU), 100 + 100. The peers run once each
on the start split, in the same process:

- sqrtm: ‖μ₁−μ₂‖² + tr (Σ₁ + Σ₂ − 2 √(Σ₁Σ₂)) with scipy.linalg.sqrtm and the 1e-8·I of the original;
- eigvals: the same with the eigenvalues of Σ₁Σ₂, torchmetrics' formula.

Ours: one FID from the class means; 25 harder, 15 easier, and 35 removal iterations together; the
exact search of `--swaps` swaps in each direction, each over the full grid of 100×100. The lower
bound for the iterations is one product of the class means and one SVD of a 100×100 block per FID.
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import scipy.linalg

import oodml
from oodml.shift.distances import Matrix

Result = TypeVar("Result")
HALF, CLUSTERS = 100, 20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--dim", type=int, default=2048)
    arguments.add_argument("--swaps", type=int, default=24)
    options = arguments.parse_args()
    means = class_means(options.dim)
    names = [f"c{i:03d}" for i in range(2 * HALF)]
    sides = means[:HALF], means[HALF:], names[:HALF], names[HALF:]

    root, root_time = timed(lambda: by_root(*sides[:2]))
    eigen, eigen_time = timed(lambda: by_eigenvalues(*sides[:2]))
    ours, ours_time = timed(lambda: oodml.frechet_distance(*sides[:2]))
    hardest, published_time = timed(lambda: published(means, names))
    _, floor_time = timed(lambda: floor(means, 25 + 15 + 2 * 35))
    print(f"{'':34}{'seconds':>10}{'of sqrtm':>12}   FID")
    line("one FID, sqrtm + 1e-8", root_time, root_time, f"{root:.9g}")
    line("one FID, eigvals (torchmetrics)", eigen_time, root_time, f"{eigen:.9g}")
    line("one FID, oodml", ours_time, root_time, f"{ours:.9g}")
    line("25 harder, 15 easier, 35 removal", published_time, root_time, f"hardest {hardest:.6g}")
    line("  lower bound", floor_time, root_time, "")
    for direction in ("harder", "easier"):
        limits = {"harder": 0, "easier": 0} | {direction: options.swaps}
        progression, seconds = timed(
            lambda limits=limits: oodml.exact_progression(means, names, None, patience=0, **limits)
        )
        reached = progression[-1] if direction == "harder" else progression[0]
        swaps = abs(int(reached.step))
        line(f"exact, {swaps} swaps {direction}", seconds, root_time, f"{reached.shift:.6g}")


def class_means(dim: int) -> Matrix:
    """Class means [200 d] in clusters that occur on both sides of the start split."""
    generator = np.random.default_rng(0)
    centers = 0.15 * generator.normal(size=(CLUSTERS, dim))
    cluster = np.arange(2 * HALF) % CLUSTERS
    rows = centers[cluster] + 0.1 * generator.normal(size=(2 * HALF, dim))
    return np.asarray(np.abs(rows + 0.4) * np.exp(0.7 * generator.normal(size=dim)))


def published(means: Matrix, names: list[str]) -> float:
    """Run the three published procedures; returns the last FID."""
    row = {name: index for index, name in enumerate(names)}
    sides = means[:HALF], means[HALF:], names[:HALF], names[HALF:]
    hardest = oodml.published_progression(*sides)[-1]
    oodml.published_progression(*sides, iterations=15, easier=True)
    rows = (means[[row[name] for name in side]] for side in (hardest.train, hardest.test))
    return oodml.removal_progression(*rows, hardest.train, hardest.test)[-1].shift


def floor(means: Matrix, count: int) -> None:
    gram = means @ means.T
    for _ in range(count):
        np.linalg.svd(gram[:HALF, HALF:], compute_uv=False)


def by_root(a: Matrix, b: Matrix) -> float:
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    small = 1e-8 * np.eye(len(first))
    root = scipy.linalg.sqrtm((first + small) @ (second + small)).real
    offset = a.mean(axis=0) - b.mean(axis=0)
    return float(offset @ offset + np.trace(first + second - 2 * root))


def by_eigenvalues(a: Matrix, b: Matrix) -> float:
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    offset = a.mean(axis=0) - b.mean(axis=0)
    return float(offset @ offset + np.trace(first) + np.trace(second) - 2 * root)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def line(name: str, seconds: float, unit: float, value: str) -> None:
    print(f"{name:34}{seconds:10.3f}{seconds / unit:12.4f}   {value}", flush=True)


if __name__ == "__main__":
    main()
