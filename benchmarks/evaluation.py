"""Time and memory of evaluation, compared with a bare matrix product and with other libraries.

    python benchmarks/evaluation.py --size cub --threads 1
    python benchmarks/evaluation.py --size sop --only ours --only faiss
    python benchmarks/evaluation.py --growth

Sizes: cub is 5,924 × 512 in 100 classes, sop 60,502 × 512 in 11,316. The floor is one n×n×d
product, computed for 512 queries at a time into the same memory. Each contender runs in its own
process, alternating with the floor, and the minimum time of each counts. Memory is the peak
resident size minus the size with the vectors loaded. Libraries that are not installed are skipped.

- ours: `oodml.retrieval_metrics`, every metric and full mAP.
- faiss: flat search for k = 1001, indices only, no metric.
- pml: pytorch-metric-learning's AccuracyCalculator: mAP@R, R-precision, precision@1, from as many
  neighbors as the largest class has images.
- pml_all: the same with its full mAP and mean reciprocal rank, from all n neighbors. It would
  need 29 GB for sop and is skipped there.
- oml: open-metric-learning's search and recall@1, precision@1, mAP@10 (a loop over queries).
- torchmetrics: one product, then its mAP and precision@1 query by query.
- original: the searches that the code of arXiv 2107.09562 runs for the same metrics, flat and
  Euclidean, one after another: Recall@k (k = 9), mAP@C (largest class), mAP@1000 (k = 1001), and
  for cub full mAP (k = n). Its metric loops over the neighbors are not timed.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

SIZES = {"cub": (5924, 512, 100), "sop": (60502, 512, 11316)}
CONTENDERS = ("ours", "faiss", "pml", "pml_all", "oml", "torchmetrics", "original")
PEERS = {"oml": "oml", "torchmetrics": "torchmetrics"}


def vectors(n: int, d: int, n_classes: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) * n_classes // n
    rows = torch.randn(n, d, generator=generator)
    if kind == "clustered":
        rows = 0.35 * rows
        rows += 0.2 * torch.randn(n_classes, d, generator=generator)[labels]
        rows += 0.1 * torch.randn(1, d, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1), labels


def floor(rows: torch.Tensor) -> None:
    buffer = torch.empty(512, len(rows))
    for part in rows.split(512):
        torch.mm(part, rows.T, out=buffer[: len(part)])


def ours(rows: torch.Tensor, labels: torch.Tensor) -> None:
    import oodml

    oodml.retrieval_metrics(rows, labels)


def search(rows: torch.Tensor, ks: list[int]) -> None:
    import faiss

    for k in ks:
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows.numpy())
        index.search(rows.numpy(), k)


def pml(rows: torch.Tensor, labels: torch.Tensor, full_map: bool = False) -> None:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    include = ("mean_average_precision_at_r", "r_precision", "precision_at_1")
    more = ("mean_average_precision", "mean_reciprocal_rank") if full_map else ()
    calculator = AccuracyCalculator(
        include=(*include, *more),
        k=None if full_map else "max_bin_count",
        device=torch.device("cpu"),
    )
    calculator.get_accuracy(rows, labels)


def oml(rows: torch.Tensor, labels: torch.Tensor) -> None:
    from oml.functional.knn import batched_knn
    from oml.functional.metrics import calc_retrieval_metrics

    all_rows = torch.arange(len(rows))
    limit = min(len(rows), 1000)
    _, neighbors, relevant = batched_knn(rows, all_rows, all_rows, limit, labels_gt=labels, bs=512)
    calc_retrieval_metrics(neighbors, relevant, None, (1,), (1,), (10,), verbose=False)


def torchmetrics(rows: torch.Tensor, labels: torch.Tensor) -> None:
    from torchmetrics.functional.retrieval import retrieval_average_precision as average_precision
    from torchmetrics.functional.retrieval import retrieval_precision as precision

    for query in range(len(rows)):
        others = torch.arange(len(rows)) != query
        scores = (rows[others] @ rows[query]).add_(2)  # hits with scores ≤ 0 are dropped
        target = labels[others] == labels[query]
        average_precision(scores, target)
        precision(scores, target, top_k=1)


def contender(name: str, rows: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    largest = int(torch.bincount(labels).max())
    full = [len(rows)] if len(rows) < 20_000 else []
    return {
        "ours": lambda: ours(rows, labels),
        "faiss": lambda: search(rows, [1001]),
        "pml": lambda: pml(rows, labels),
        "pml_all": lambda: pml(rows, labels, full_map=True),
        "oml": lambda: oml(rows, labels),
        "torchmetrics": lambda: torchmetrics(rows, labels),
        "original": lambda: search(rows, [9, largest + 1, 1001, *full]),
    }[name]


def seconds(task: Callable[[], None]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def child(name: str, shape: tuple[int, int, int], kind: str, threads: int, repeats: int) -> None:
    import faiss

    import oodml

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    rows, labels = vectors(*shape, kind)
    task = contender(name, rows, labels)
    small = vectors(300, 32, 30, kind)  # trigger lazy imports and allocations
    oodml.retrieval_metrics(*small)
    contender(name, *small)() if name != "faiss" and name != "original" else None
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task_times, floor_times = [], []
    memory = 0
    for _ in range(repeats):
        task_times.append(seconds(task))
        memory = memory or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded
        floor_times.append(seconds(lambda: floor(rows)))
    print(json.dumps([min(task_times), min(floor_times), memory / 1024]))


def measure(name: str, shape: tuple[int, ...], kind: str, threads: int, repeats: int) -> None:
    arguments = [name, json.dumps(shape), kind, str(threads), str(repeats)]
    process = subprocess.run(
        [sys.executable, __file__, "--child", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    duration, product, memory = json.loads(process.stdout.splitlines()[-1])
    print(
        f"{shape[0]:>7} {kind:<10} {threads:>7} {name:<9} {duration:>9.2f} {product:>9.2f} "
        f"{duration / product:>7.2f} {memory:>8.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="cub")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--kind", choices=("random", "clustered"), action="append")
    parser.add_argument("--only", choices=CONTENDERS, action="append")
    parser.add_argument("--repeats", type=int, help="default 5 for cub, 1 for sop")
    parser.add_argument("--growth", action="store_true", help="ours at 10k, 20k, 40k, 80k × 128")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, shape, kind, threads, repeats = options.child
        child(name, tuple(json.loads(shape)), kind, int(threads), int(repeats))
        return
    heads = f"{'n':>7} {'vectors':<10} {'threads':>7} {'':<9} {'seconds':>9} {'floor':>9}"
    print(f"{heads} {'ratio':>7} {'MB above':>8}")
    if options.growth:
        for n in 10_000 * 2 ** np.arange(4):
            measure("ours", (int(n), 128, int(n) // 5), "random", options.threads, 2)
        return
    repeats = options.repeats or (5 if options.size == "cub" else 1)
    for kind in options.kind or ("random", "clustered"):
        for name in options.only or CONTENDERS:
            if name == "pml_all" and options.size == "sop":
                continue
            if name in PEERS and importlib.util.find_spec(PEERS[name]) is None:
                print(f"{name}: not installed", flush=True)
                continue
            measure(name, SIZES[options.size], kind, options.threads, repeats)


if __name__ == "__main__":
    main()
