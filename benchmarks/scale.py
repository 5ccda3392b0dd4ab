"""The constants of docs/scale.md on this machine, in CPU seconds of one thread.

    python benchmarks/scale.py

CPU time is what one core needs without other load. Random vectors of 512 dimensions; JPEGs of
500x400 pixels; lite0 at 224 pixels.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from loader import write_photos

from oodml.backbones import load_backbone
from oodml.bulk.embed import BulkSettings, ShardWriter
from oodml.bulk.sources import open_source
from oodml.embedding import evaluation_mode
from oodml.evaluate.shards import Shards
from oodml.evaluate.streaming import evaluate_shards
from oodml.progress import hide_progress
from oodml.vectors import VectorSet

D, QUERIES, GALLERY = 512, 500, 200_000


def main() -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    vectors = random.standard_normal((GALLERY, D), dtype=np.float32)
    product = cpu_seconds(lambda: torch.from_numpy(vectors[:QUERIES]) @ torch.from_numpy(vectors).T)
    print(f"product: {2 * QUERIES * GALLERY * D / product / 1e9:.0f} GFLOP/s")
    with tempfile.TemporaryDirectory() as temporary, hide_progress():
        folder = Path(temporary)
        classes = (np.arange(GALLERY) // 20).astype(str)
        gallery = VectorSet(vectors, classes)
        (folder / "float16").mkdir()
        np.save(folder / "float16" / "a.npy", vectors.astype(np.float16))
        lines = "\n".join(f"{name},{row}" for row, name in enumerate(classes))
        (folder / "float16" / "a.csv").write_text(f"class,id\n{lines}\n")
        files = Shards(folder / "float16").shards
        seconds = cpu_seconds(lambda: [len(part) for file in files for part in file.chunks()])
        print(f"reading float16: {GALLERY * D * 2 / seconds / 1e9:.2f} GB/s")
        shards, queries = Shards(folder / "float16"), gallery.select(np.arange(QUERIES))
        seconds = cpu_seconds(lambda: evaluate_shards(queries, shards))
        print(f"search: {seconds / (QUERIES * GALLERY * D) * 1e12:.2f} ps per query, image, and "
              f"dimension; {seconds / product:.2f} of the product")  # fmt: skip
        gallery.save(folder / "a.parquet")
        size = (folder / "a.parquet").stat().st_size
        print(f"Parquet: {size / GALLERY:.0f} bytes per vector of {D} float32")
        embedding(folder)


def embedding(folder: Path) -> None:
    source = open_source(str(write_photos(folder / "photos", 128)), 128)
    writer = ShardWriter(BulkSettings("lite0", batch_size=64))
    (job,) = source.jobs([0])
    seconds = cpu_seconds(lambda: writer.write(job, folder))
    print(f"lite0 from JPEG to shard: {seconds / 128 * 1e3:.1f} ms per image")
    network = load_backbone("lite0")
    batch = torch.rand(64, 3, 224, 224)
    with evaluation_mode(network):
        seconds = cpu_seconds(lambda: network.pooled(batch, ["avg"]))
    print(f"lite0 forward: {seconds / 64 * 1e3:.1f} ms per image")


def cpu_seconds(function: Callable[[], object], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
