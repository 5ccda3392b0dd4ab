"""Time and memory of compressed search and of counting distractors, against one blocked product.

    python benchmarks/decisions.py --rows 100000 --queries 10000

The floor is the product of all queries with all rows, in blocks. Processor time counts, so other
processes matter little. Each task alternates with the product; the minimum of each counts. Memory
is the peak resident size minus the size with the vectors and one product.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from oodml.decisions.compression import Code, code_metrics, precision_code, quantized_code
from oodml.decisions.gallery_size import count_distractors
from oodml.vectors import VectorSet

PER_CLASS = 5


def seconds(task: Callable[[], object]) -> float:
    begin = time.process_time()
    task()
    return time.process_time() - begin


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def multiply(queries: torch.Tensor, rows: torch.Tensor) -> None:
    buffer = torch.empty(512, len(rows))
    for block in queries.split(512):
        torch.mm(block, rows.T, out=buffer[: len(block)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n, width, asked = options.rows, options.dimensions, options.queries
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) // PER_CLASS
    centers = torch.randn(n // PER_CLASS + 1, width, generator=generator)
    rows = centers[labels] * 0.7 + torch.randn(n, width, generator=generator)
    rows = torch.nn.functional.normalize(rows, dim=1)
    sides, names = (np.arange(asked), np.arange(n)), labels.numpy()
    binary = precision_code("binary", width)
    codes = [
        precision_code("int8", width),
        binary,
        Code("rescored 4x", binary.size, binary.encode, 4),
        quantized_code(width // 8, False, width),
    ]
    tasks: dict[str, Callable[[], object]] = {
        code.name: lambda code=code: code_metrics(code, rows, rows[:4000], names, sides=sides)
        for code in codes
    }
    queries, pool = (
        VectorSet(part.numpy(), name.astype(str))
        for part, name in ((rows[:asked], names[:asked]), (rows[asked:], names[asked:]))
    )
    tasks["distractors"] = lambda: count_distractors(queries, pool)
    multiply(rows[:512], rows)
    loaded = peak()
    for name, task in tasks.items():
        pairs = [
            (seconds(task), seconds(lambda: multiply(rows[:asked], rows)))
            for _ in range(options.repeats)
        ]
        taken, floor = (min(column) for column in zip(*pairs, strict=True))
        above = peak() - loaded
        print(
            f"{name}: {taken:.1f} s, floor {floor:.1f} s, ratio {taken / floor:.2f}, "
            f"{above:.2f} GB above (so far)",
            flush=True,
        )


if __name__ == "__main__":
    main()
