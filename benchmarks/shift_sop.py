"""The published procedures at the size of Stanford Online Products.

    python benchmarks/shift_sop.py [--harder 20] [--removal 30] [--swaps 1000]

22,634 random class means of 2048 dimensions, 11,318 + 11,316. Prints the seconds of the exchange
iterations and of removal from the last split, of one covariance update, Cholesky factor, and set
of eigenvalues (the lower bound for a FID), and the peak memory of the process.
"""

import argparse
import resource
import time

import numpy as np
import scipy.linalg

import oodml

N_TRAIN, N_TEST, DIM = 11_318, 11_316, 2048


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--harder", type=int, default=20)
    arguments.add_argument("--removal", type=int, default=30)
    arguments.add_argument("--swaps", type=int, default=1000)
    options = arguments.parse_args()
    means = class_means()
    names = [f"c{i:05d}" for i in range(len(means))]
    seconds = floor(means[: options.swaps])
    print(f"lower bound for one FID: {seconds:.1f} s", flush=True)

    start = time.perf_counter()
    harder = oodml.published_progression(
        means[:N_TRAIN], means[N_TRAIN:], names[:N_TRAIN], names[N_TRAIN:],
        options.harder, options.swaps,
    )  # fmt: skip
    report("harder", options.harder, start, harder)
    rows = [
        np.array([int(name[1:]) for name in side]) for side in (harder[-1].train, harder[-1].test)
    ]
    start = time.perf_counter()
    removed = oodml.removal_progression(
        means[rows[0]], means[rows[1]], harder[-1].train, harder[-1].test,
        options.removal, options.swaps,
    )  # fmt: skip
    report("removal", options.removal, start, removed)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {memory:.2f} GiB")


def class_means() -> np.ndarray:
    generator = np.random.default_rng(0)
    scale = np.exp(0.7 * generator.normal(size=DIM)).astype(np.float32)
    centers = 0.3 * generator.standard_normal((12, DIM), dtype=np.float32)
    means = generator.standard_normal((N_TRAIN + N_TEST, DIM), dtype=np.float32)
    means *= 0.3
    means += centers[generator.integers(0, 12, len(means))]
    means *= scale
    return means


def floor(rows: np.ndarray) -> float:
    """Seconds of the minimum for one FID: an update, a factor, two products, and eigenvalues."""
    sigma = np.cov(rows[:, :DIM], rowvar=False) + np.eye(rows.shape[1])
    start = time.perf_counter()
    double = rows.astype(np.float64)
    for _ in range(4):
        double.T @ double
    lower = np.linalg.cholesky(sigma)
    scipy.linalg.eigvalsh(lower.T @ sigma @ lower, check_finite=False)
    return time.perf_counter() - start


def report(name: str, iterations: int, start: float, progression: oodml.Progression) -> None:
    seconds = time.perf_counter() - start
    first, last = progression[0], progression[-1]
    print(
        f"{name}: {iterations} iterations, {seconds:.1f} s, {seconds / iterations:.2f} s each; "
        f"FID {first.shift:.5g} to {last.shift:.5g}, {len(last.train)} + {len(last.test)} classes "
        f"({progression.settings['fid_by']})",
        flush=True,
    )


if __name__ == "__main__":
    main()
