"""`oodml embed --out FOLDER`: two processes compared with two actors of Ray Data.

    python benchmarks/bulk.py [--images 20000] [--shard-size 250] [--workers 2] [--rounds 1]

Writes PNGs of 32x32 pixels and embeds them with the untrained network `small` at 32 pixels, by
turns with processes and with Ray on this machine. Each round prints the seconds of the whole
command, and the images per second between the first and the last shard, without start-up.
Target: Ray at least 0.8 times the images per second of plain processes.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from oodml.bulk.embed import BulkSettings, embed_shards
from oodml.bulk.sources import open_source
from oodml.progress import hide_progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--shard-size", type=int, default=250)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "photos", options.images)
        source = open_source(str(folder / "photos"), options.shard_size)
        settings = BulkSettings("small", options={"weights": "none", "image_size": 32})
        rates: dict[str, list[float]] = {"local": [], "ray": []}
        for step in range(options.rounds):
            for on in rates:
                out = folder / f"{on}{step}"
                start = time.perf_counter()
                with hide_progress():
                    embed_shards(source, out, settings, options.workers, on)
                seconds = time.perf_counter() - start
                times = sorted(path.stat().st_mtime for path in out.glob("part-*.parquet"))
                rates[on].append((len(times) - 1) * options.shard_size / (times[-1] - times[0]))
                load = os.getloadavg()[0]
                print(f"{on}: {seconds:.1f} s, {rates[on][-1]:.0f} images/s, load {load:.1f}")
        ratio = np.median(rates["ray"]) / np.median(rates["local"])
        print(f"Ray / processes: {ratio:.2f} (target 0.8)")


def write_images(folder: Path, n: int) -> None:
    random = np.random.default_rng(0)
    for row in range(n):
        file = folder / f"c{row % 100}" / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)


if __name__ == "__main__":
    main()
