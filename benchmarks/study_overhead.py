"""How much of its workers' time a study spends in runs, and how long `oodml study status` takes.

A run is a second of sleep, so that what is measured is the study's own work: claims, files, table.
Usage: python benchmarks/study_overhead.py [--runs 300] [--workers 2] [--seconds 1.0]
The floor is the time of the runs alone, shared out among the workers: 100%.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.study.toy import execute, toy_study

from oodml.study.launch import run_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        study = toy_study(Path(folder), options.runs // 6)
        work = partial(execute, seconds=options.seconds)
        run_study(study, out, execute=work, workers=options.workers, device="cpu")
        records = list(out.glob("runs/*/run.json"))
        stamps = sorted((out / "calls").iterdir(), key=lambda path: path.stat().st_mtime)
        first = stamps[0].stat().st_mtime
        last = max(path.stat().st_mtime for path in out.glob("runs/*"))
        share = options.runs * options.seconds / (options.workers * (last - first))
        started = time.perf_counter()
        subprocess.run(["oodml", "study", "status", str(out)], check=True, capture_output=True)
        status = time.perf_counter() - started
        size = sum(path.stat().st_blocks * 512 for path in out.rglob("*")) / len(records)
    print("  runs  workers   in runs   status  disk a run")
    kilobytes = size / 1000
    print(
        f"{len(records):6}  {options.workers:7}  {share:8.1%}  {status:5.2f} s  {kilobytes:7.1f} kB"
    )


if __name__ == "__main__":
    main()
