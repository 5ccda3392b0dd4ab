"""Throughput of augmented batches: this package with and without the pixel cache, and ImageFolder.

    python benchmarks/loader.py [--images 600] [--threads 2] [--rounds 3] [--network resnet18]

Writes JPEGs of 500x400 pixels into a temporary folder: noise with the spectrum of photographs,
about 90 kB each, like the images of CUB200. In every round, each loader reads all images in batches
of 112 at 224 pixels, with the same number of workers or threads:

- ImageFolder: torchvision, with RandomResizedCrop, flip, ToTensor, and Normalize, in a DataLoader;
  it returns normalized floats. "... in uint8": the same without the last two transforms;
- off: this package on the files; cached: on the pixel cache at the short side of "auto". Both
  return uint8, which the device converts; "cached + floats" converts on the CPU;
- floor: a copy of the same number of bytes in memory.

CPU time is that of all threads and workers, so other processes hardly affect it. Ratios are medians
of the ratios per round. The benchmark then prints the cost of filling the cache, and the time of a
network's training step next to that of its batch.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oodml.backbones import load_backbone
from oodml.datasets import open_images
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import resized_images
from oodml.images.transforms import batches, recipe, sufficient_short, train_views

SIZE, BATCH = 224, 112
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pass = Callable[[], Iterator[Tensor]]
Cost = tuple[float, float]
"""Seconds per image: wall time and CPU time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the loaders have their own threads and workers
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["OODML_CACHE"] = f"{temporary}/cache"
        root = write_photos(Path(temporary) / "photos", options.images)
        images = open_images(root)
        size = np.mean([images.path(row).stat().st_size for row in range(len(images))]) / 1e3
        short = sufficient_short(recipe("base"), SIZE)
        started = time.perf_counter()
        resized = resized_images(images, short)
        filling = time.perf_counter() - started
        print(
            f"{options.images} JPEGs of 500x400, {size:.0f} kB each; {options.threads} threads, "
            f"torch {torch.__version__}, {os.cpu_count()} processors"
        )
        print(f"filling the cache, short side {short}: {options.images / filling:.0f} images/s")
        loaders = {"floor": floor, "off": package_loader(images, options.threads)}
        loaders["cached"] = package_loader(resized, options.threads)
        loaders["cached + floats"] = to_floats(loaders["cached"])
        loaders = image_folder(root, options.threads) | loaders
        costs = measure(loaders, options.rounds)
        report(costs)
        compare_to_step(options, {name: BATCH * statistics.median(cost[0] for cost in values)
                                  for name, values in costs.items()})  # fmt: skip


def report(costs: dict[str, list[Cost]]) -> None:
    """Print a row for each loader."""
    reference = costs.get("ImageFolder")
    print(f"{'':14} {'images/s':>9} {'CPU us/image':>13} {'faster':>8} {'less CPU':>9}")
    for name, values in costs.items():
        wall, processor = (statistics.median(column) for column in zip(*values, strict=True))
        cells = f"{name:14} {1 / wall:9.0f} {1e6 * processor:13.0f}"
        if reference is not None:
            pairs = [(a[0] / b[0], a[1] / b[1]) for a, b in zip(reference, values, strict=True)]
            faster, less = (statistics.median(column) for column in zip(*pairs, strict=True))
            cells += f" {faster:8.1f} {less:9.1f}"
        print(cells)


def measure(loaders: dict[str, Pass], rounds: int) -> dict[str, list[Cost]]:
    """The costs of each loader in each round, after a warm-up round."""
    costs: dict[str, list[Cost]] = {name: [] for name in loaders}
    for round_ in range(rounds + 1):
        for name, loader in loaders.items():
            cpu_started, started = cpu_time(), time.perf_counter()
            n_images = sum(len(batch) for batch in loader())
            elapsed = time.perf_counter() - started
            if round_:
                costs[name].append((elapsed / n_images, (cpu_time() - cpu_started) / n_images))
    return costs


def cpu_time() -> float:
    """CPU seconds of this process and of its finished workers."""
    return sum(os.times()[:4])


def floor() -> Iterator[Tensor]:
    source = torch.zeros(BATCH, 3, SIZE, SIZE, dtype=torch.uint8)
    for _ in range(50):
        yield source.clone()


def package_loader(images: ImageSet, threads: int) -> Pass:
    rows = np.arange(len(images))
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    chosen = recipe("base")

    def one_pass() -> Iterator[Tensor]:
        return batches(
            ((part, train_views(images, SIZE, chosen, seed)) for seed, part in enumerate(parts)),
            threads,
        )

    return one_pass


def to_floats(loader: Pass) -> Pass:
    """Normalize like ImageFolder, a row of pixels at a time, in one buffer."""
    mean, std = (255 * torch.tensor(values).repeat(SIZE) for values in (MEAN, STD))
    buffer = torch.empty(BATCH, SIZE, 3 * SIZE)

    def one_pass() -> Iterator[Tensor]:
        for batch in loader():
            rows = batch.permute(0, 2, 3, 1).flatten(2)
            normalized = buffer[: len(rows)].copy_(rows).sub_(mean).div_(std)
            yield normalized.unflatten(2, (SIZE, 3)).permute(0, 3, 1, 2)

    return one_pass


def image_folder(root: Path, workers: int) -> dict[str, Pass]:
    try:
        from torchvision import datasets, transforms
    except ImportError:
        print("torchvision is not installed: skipping ImageFolder")
        return {}
    views = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]

    def loading(steps: list[object]) -> Pass:
        images = datasets.ImageFolder(str(root), transforms.Compose(steps))
        loader = torch.utils.data.DataLoader(images, BATCH, num_workers=workers)
        return lambda: (batch for batch, _ in loader)

    return {
        "ImageFolder": loading(views + normalize),
        "... in uint8": loading([*views, transforms.PILToTensor()]),
    }


def compare_to_step(options: argparse.Namespace, seconds: dict[str, float]) -> None:
    """Print the time of a training step, forward and backward, and of loading its batch."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    network = load_backbone(options.network, "none").to(device).train()
    share = 4 if device.type == "cpu" else 1
    batch = torch.rand(BATCH // share, 3, SIZE, SIZE, device=device)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = network(batch).float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return share * (time.perf_counter() - started)

    step()
    step_time = statistics.median(step() for _ in range(3 if device.type == "cpu" else 20))
    print(
        f"{options.network} on {device}: {1e3 * step_time:.0f} ms per step of {BATCH} images; batch"
    )
    for name in ("ImageFolder", "off", "cached"):
        if name in seconds:
            print(f"  {name}: {1e3 * seconds[name]:.0f} ms, {seconds[name] / step_time:.1%}")


def write_photos(root: Path, count: int) -> Path:
    """Write JPEGs of noise with the spectrum of photographs, in two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        values = np.zeros((400, 500, 3), dtype=np.float32)
        for octave in range(9):
            shape = (400 // 2**octave + 3, 500 // 2**octave + 3)
            gray, color = random.normal(size=(*shape, 1)), random.normal(size=(*shape, 3))
            coarse = (gray + 0.3 * color).astype(np.float32) * 2 ** (0.4 * octave)
            for channel in range(3):
                layer = Image.fromarray(coarse[:, :, channel])
                values[:, :, channel] += layer.resize((500, 400), Image.Resampling.BICUBIC)
        values = (values - values.mean()) / values.std() * 50 + 128
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{number:04d}.jpg", quality=95)
    return root


if __name__ == "__main__":
    main()
