"""`oodml.embed` compared with the bare forward pass of the same batches.

    python benchmarks/embed.py [--images 256] [--rounds 3] [--threads 2] [--network lite0]

Writes JPEGs of 500x400 pixels, like `benchmarks/loader.py`. In every round, `embed` reads, decodes,
and embeds all of them without the cache, and the network alone runs on the same batches of 64,
which are decoded in memory. Both run in one process, so under the same
allocator. CPU time is that of all threads, so other processes hardly affect it; decoding is part of
the CPU time of `embed`, and overlaps with the forward pass in its wall time. Ratios are medians of
the ratios per round. Start-up, the first call on a single image, is printed apart, and so is the
peak memory of the process before and after `embed`. Target: at most 1.3 times the forward pass.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from loader import cpu_time, write_photos

from oodml.backbones import load_backbone
from oodml.datasets import open_images
from oodml.embedding import embed, evaluation_mode
from oodml.images.image_set import ImageSet
from oodml.images.transforms import batches, recipe, test_views
from oodml.model import to_float

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--network", default="lite0")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    weights = None if options.network.startswith("lite") else "none"
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["OODML_CACHE"] = f"{temporary}/cache"
        images = open_images(write_photos(Path(temporary) / "photos", options.images))
        start = time.perf_counter()
        embed(images.select(np.arange(1)), options.network, weights=weights, cache=False)
        print(
            f"{options.network}, {options.images} JPEGs of 500x400, {options.threads} threads, "
            f"torch {torch.__version__}; start-up {time.perf_counter() - start:.1f} s"
        )
        before = peak_memory()
        embed(images, options.network, weights=weights, cache=False)
        print(f"peak memory: {before:.2f} GB before, {peak_memory():.2f} GB after embedding")
        forward = bare_forward(images, options.network, weights)
        ratios = []
        for _ in range(options.rounds):
            ours = cost(
                lambda: embed(
                    images, options.network, augmentation="base", weights=weights, cache=False
                )
            )
            bare = cost(forward)
            ratios.append([a / b for a, b in zip(ours, bare, strict=True)])
            print(f"embed {ours[0]:.2f} s (CPU {ours[1]:.2f} s), forward {bare[0]:.2f} s "
                  f"(CPU {bare[1]:.2f} s)")  # fmt: skip
        wall, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
        print(f"embed / forward: wall {wall:.2f}, CPU {processor:.2f} (target 1.3)")


def bare_forward(images: ImageSet, name: str, weights: str | None) -> Callable[[], None]:
    """The forward pass of all images, decoded and resized in advance."""
    network = load_backbone(name, weights)
    view = test_views(images, network.image_size, recipe("base"), None)
    rows = np.arange(len(images))
    jobs = ((rows[start : start + BATCH], view) for start in range(0, len(rows), BATCH))
    loaded = list(batches(jobs))

    def run() -> None:
        with evaluation_mode(network):
            for batch in loaded:
                network(to_float(batch))

    return run


def cost(function: Callable[[], object]) -> tuple[float, float]:
    """The wall time and the CPU time of a call, in seconds."""
    processor, wall = cpu_time(), time.perf_counter()
    function()
    return time.perf_counter() - wall, cpu_time() - processor


def peak_memory() -> float:
    """The largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
