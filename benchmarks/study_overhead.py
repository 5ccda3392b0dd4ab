"""How much of its workers' time a study spends in runs, and how long `oodml study status` takes.

A run is a second of sleep, so that what is measured is the study's own work: claims, files, table.
With --real it is a training on the cached features of few characters, as long as --epochs make it.
Usage: python benchmarks/study_overhead.py [--runs 300] [--workers 2] [--seconds 1.0 | --real]
The floor is the time of the runs alone, shared out among the workers: 100%.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.study.toy import execute, toy_study

from oodml.study.launch import run_study
from oodml.study.spec.study_file import Study, read_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        if options.real:
            study, work = real_study(Path(folder), options.runs // 6, options.epochs), None
        else:
            study = toy_study(Path(folder), options.runs // 6)
            work = partial(execute, seconds=options.seconds)
        run_study(study, out, execute=work, workers=options.workers, device="cpu")
        ended, seconds = [], []
        for folder_of_run in out.glob("runs/*"):
            record = json.loads((folder_of_run / "run.json").read_text())
            ended.append(folder_of_run.stat().st_mtime)
            seconds.append(record["seconds"] if options.real else options.seconds)
        # start-up aside: from the start of the first run to the end of the last
        began = min(end - lasted for end, lasted in zip(ended, seconds, strict=True))
        share = sum(seconds) / (options.workers * (max(ended) - began))
        started = time.perf_counter()
        command = [sys.executable, "-m", "oodml", "study", "status", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        status = time.perf_counter() - started
        size = sum(path.stat().st_blocks * 512 for path in out.rglob("*")) / len(ended)
    print("  runs  workers   in runs   status  disk a run")
    kilobytes = size / 1000
    print(
        f"{len(ended):6}  {options.workers:7}  {share:8.1%}  {status:5.2f} s  {kilobytes:7.1f} kB"
    )


def real_study(folder: Path, seeds: int, epochs: int) -> Study:
    """Two methods on three splits of sixty characters, so many seeds."""
    file = folder / "study.toml"
    file.write_text(
        'data = {name = "glyphs", few = [60, 20]}\n'
        f"seeds = {list(range(seeds))}\n"
        'splits = {backbone = "pixels", procedure = "published", n_splits = 3}\n'
        'model = {backbone = "pixels", augmentation = "gentle", dim = 64}\n'
        f"train = {{epochs = {epochs}, batch_size = 44}}\n"
        "[methods.margin]\n[methods.multisimilarity]\n"
    )
    return read_study(file)


if __name__ == "__main__":
    main()
