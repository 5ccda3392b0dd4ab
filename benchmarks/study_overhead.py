"""Measure the share of worker time that a study spends in runs, and the time of a status query.

A run sleeps for a second, so the rest is the study's own work: claims, files, and the table. With
--real, a run trains on cached features of a few characters for --epochs epochs.
Usage: python benchmarks/study_overhead.py [--runs 300] [--workers 2] [--seconds 1.0 | --real]
           [--nodes]
The optimum is 100%: the time of the runs alone, divided among the workers. With --nodes, each
worker is a node of a Ray cluster on this machine, with one processor.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.study.toy import execute, toy_study

from oodml.results.plan import read_run
from oodml.study.launch import run_study
from oodml.study.spec.study_file import Study, read_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--nodes", action="store_true")
    options = parser.parse_args()
    nodes = ray_nodes(options.workers) if options.nodes else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder, nodes:
        out = Path(folder) / "out"
        if options.real:
            study, work = real_study(Path(folder), options.runs // 6, options.epochs), None
        else:
            study = toy_study(Path(folder), options.runs // 6)
            work = partial(execute, seconds=options.seconds)
        executor = "ray" if options.nodes else "local"
        run_study(
            study, out, execute=work, workers=options.workers, device="cpu", executor=executor
        )
        runs = list((out / "runs").iterdir())
        if options.real:
            seconds = [read_run(run / "run.json").seconds for run in runs]
        else:
            seconds = [options.seconds] * len(runs)
        share = share_in_runs([run.stat().st_mtime for run in runs], seconds, options.workers)
        status = status_seconds(out)
        size = sum(path.stat().st_blocks * 512 for path in out.rglob("*")) / len(runs) / 1000
    span = sum(seconds) / (options.workers * share)
    print("  runs  workers   seconds  in runs   status  disk per run")
    print(f"{len(runs):6}  {options.workers:7}  {span:8.1f} {share:8.1%}  {status:5.2f} s  "
          f"{size:9.1f} kB")  # fmt: skip


@contextlib.contextmanager
def ray_nodes(n: int) -> Iterator[None]:
    """A Ray cluster of a head without processors and n nodes with one each."""
    from ray.cluster_utils import Cluster

    root = Path(__file__).parents[1]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(n):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        cluster.shutdown()


def share_in_runs(ended: Sequence[float], seconds: Sequence[float], workers: int) -> float:
    """Share of worker time from the start of the first run to the end of the last one."""
    began = min(end - duration for end, duration in zip(ended, seconds, strict=True))
    return sum(seconds) / (workers * (max(ended) - began))


def status_seconds(out: Path) -> float:
    """Seconds of one `oodml study status`."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "oodml", "study", "status", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def real_study(folder: Path, seeds: int, epochs: int) -> Study:
    """Two methods on three splits of sixty characters."""
    file = folder / "study.toml"
    file.write_text(
        'data = {name = "glyphs", few = [60, 20]}\n'
        f"seeds = {list(range(seeds))}\n"
        'splits = {backbone = "pixels", procedure = "published", n_splits = 3}\n'
        'model = {backbone = "pixels", augmentation = "gentle", dim = 64}\n'
        f"train = {{epochs = {epochs}, batch_size = 44}}\n"
        "[methods.margin]\n[methods.multisimilarity]\n",
        encoding="utf-8",
    )
    return read_study(file)


if __name__ == "__main__":
    main()
