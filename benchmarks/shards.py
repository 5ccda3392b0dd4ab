"""Time and memory of a search in a gallery on disk, compared with reading and one product.

    python benchmarks/shards.py --rows 5000000 --dimensions 64 --queries 1000

The floor is reading every file once and multiplying each chunk, as float32, with all queries.
Both run in the same process, alternating; minimum and median of seconds and of CPU seconds are
printed. Memory is the peak resident size minus the size with queries loaded.
Target: at most 1.5 times the floor.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from oodml.evaluate.shards import Shards
from oodml.evaluate.streaming import evaluate_shards
from oodml.vectors import VectorSet


def write(folder: Path, rows: int, dimensions: int, per_class: int, n_files: int) -> None:
    random = np.random.default_rng(0)
    for i, part in enumerate(np.array_split(np.arange(rows), n_files)):
        vectors = random.standard_normal((len(part), dimensions), dtype=np.float32)
        np.save(folder / f"part{i:03}.npy", vectors.astype(np.float16))
        lines = "\n".join(f"c{row // per_class},{row}" for row in part.tolist())
        (folder / f"part{i:03}.csv").write_text(f"class,id\n{lines}\n")


def floor(queries: torch.Tensor, folder: Path) -> None:
    buffer = torch.empty(len(queries), 2**18)
    for file in sorted(folder.glob("*.npy")):
        rows = np.load(file)
        for begin in range(0, len(rows), 2**18):
            part = torch.from_numpy(rows[begin : begin + 2**18].astype(np.float32))
            torch.mm(queries, part.T, out=buffer[:, : len(part)].view(len(queries), len(part)))


def seconds(task: Callable[[], object]) -> tuple[float, float]:
    begin, cpu = time.perf_counter(), time.process_time()
    task()
    return time.perf_counter() - begin, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--per-class", type=int, default=5)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = np.random.default_rng(1)
    shape = (options.queries, options.dimensions)
    classes = random.integers(options.rows // options.per_class, size=options.queries)
    queries = VectorSet(
        random.standard_normal(shape, dtype=np.float32), np.array([f"c{c}" for c in classes])
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.rows, options.dimensions, options.per_class, options.files)
        gallery = Shards(folder)
        evaluate_shards(queries.select(np.arange(2)), gallery)  # imports
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times, floors, memory = [], [], 0
        for _ in range(options.repeats):
            times.append(seconds(lambda: evaluate_shards(queries, gallery)))
            memory = memory or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded
            floors.append(seconds(lambda: floor(torch.from_numpy(queries.vectors), folder)))
    print(f"{options.rows} x {options.dimensions}: {memory / 1024:.0f} MB above, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    for name, summary in (("minimum", np.min), ("median", np.median)):
        time_, floor_ = summary(times, axis=0), summary(floors, axis=0)
        for kind, one, other in zip(("seconds", "CPU seconds"), time_, floor_, strict=True):
            print(f"{name} {kind}: {one:.1f}, floor {other:.1f}, ratio {one / other:.2f}")


if __name__ == "__main__":
    main()
