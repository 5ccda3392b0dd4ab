"""Batches of augmented images: ours, with and without kept pixels, against ImageFolder.

    python benchmarks/loader.py [--images 600] [--threads 2] [--rounds 3] [--network resnet18]

Writes JPEGs of 500x400 pixels into a temporary folder: noise with the spectrum of photographs,
about 90 kB each, as those of CUB200 are. In every round all forms take turns over all images, in
batches of 112 at 224 pixels, with as many workers or threads as given:

- ImageFolder: torchvision's, with RandomResizedCrop, flip, ToTensor and Normalize, in a DataLoader
  of torch; it gives normalised floats; "in uint8": the same without the last two, as ours;
- off: our loader on the files; kept: our loader on pixels kept at the short side of "auto". Both
  give uint8, which the device makes floats of; "kept + floats" does that on the processor;
- floor: a copy of so many bytes in memory.

Processor time is that of all threads and workers, so that other work on the machine hardly counts;
ratios are medians of the ratios of rounds. Then: what keeping the pixels costs, and the step of a
network beside the time of its batch.
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
from oodml.images.loader import batches, train_views
from oodml.images.pixel_cache import resized_images
from oodml.images.transforms import recipe, sufficient_short

SIZE, BATCH = 224, 112
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pass = Callable[[], Iterator[Tensor]]
Cost = tuple[float, float]
"""Seconds an image: passed, and of processors."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the loaders' own threads and workers do the work
    with tempfile.TemporaryDirectory() as place:
        os.environ["OODML_CACHE"] = f"{place}/cache"
        root = drawn(Path(place) / "photos", options.images)
        images = open_images(root)
        size = np.mean([images.path(row).stat().st_size for row in range(len(images))]) / 1e3
        short = sufficient_short(recipe("base"), SIZE)
        started = time.perf_counter()
        small = resized_images(images, short)
        filling = time.perf_counter() - started
        print(
            f"{options.images} JPEGs of 500x400, {size:.0f} kB each; {options.threads} threads, "
            f"torch {torch.__version__}, {os.cpu_count()} processors"
        )
        print(f"keeping at short side {short}: {options.images / filling:.0f} images/s, once")
        forms = {"floor": floor, "off": ours(images, options.threads)}
        forms["kept"] = ours(small, options.threads)
        forms["kept + floats"] = floats(forms["kept"])
        forms = image_folder(root, options.threads) | forms
        found = timed(forms, options.rounds)
        report(found)
        starving(options, {name: BATCH * statistics.median(cost[0] for cost in costs)
                           for name, costs in found.items()})  # fmt: skip


def report(found: dict[str, list[Cost]]) -> None:
    """A row a form."""
    theirs = found.get("ImageFolder")
    print(f"{'':14} {'images/s':>9} {'CPU us/image':>13} {'faster':>8} {'less CPU':>9}")
    for name, costs in found.items():
        wall, processor = (statistics.median(values) for values in zip(*costs, strict=True))
        cells = f"{name:14} {1 / wall:9.0f} {1e6 * processor:13.0f}"
        if theirs is not None:
            pairs = [(a[0] / b[0], a[1] / b[1]) for a, b in zip(theirs, costs, strict=True)]
            faster, less = (statistics.median(values) for values in zip(*pairs, strict=True))
            cells += f" {faster:8.1f} {less:9.1f}"
        print(cells)


def timed(forms: dict[str, Pass], rounds: int) -> dict[str, list[Cost]]:
    """Costs of each form in each round; one pass before warms up."""
    costs: dict[str, list[Cost]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, form in forms.items():
            before, started = processor_time(), time.perf_counter()
            seen = sum(len(batch) for batch in form())
            passed = time.perf_counter() - started
            if turn:
                costs[name].append((passed / seen, (processor_time() - before) / seen))
    return costs


def processor_time() -> float:
    """Seconds of this process, and of its workers that have ended."""
    return sum(os.times()[:4])


def floor() -> Iterator[Tensor]:
    source = torch.zeros(BATCH, 3, SIZE, SIZE, dtype=torch.uint8)
    for _ in range(50):
        yield source.clone()


def ours(images: ImageSet, threads: int) -> Pass:
    rows = np.arange(len(images))
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    chosen = recipe("base")

    def one_pass() -> Iterator[Tensor]:
        return batches(
            ((part, train_views(images, SIZE, chosen, seed)) for seed, part in enumerate(parts)),
            threads,
        )

    return one_pass


def floats(form: Pass) -> Pass:
    """Normalised as ImageFolder's are; a row of pixels at once, into one buffer."""
    mean, std = (255 * torch.tensor(values).repeat(SIZE) for values in (MEAN, STD))
    buffer = torch.empty(BATCH, SIZE, 3 * SIZE)

    def one_pass() -> Iterator[Tensor]:
        for batch in form():
            rows = batch.permute(0, 2, 3, 1).flatten(2)
            made = buffer[: len(rows)].copy_(rows).sub_(mean).div_(std)
            yield made.unflatten(2, (SIZE, 3)).permute(0, 3, 1, 2)

    return one_pass


def image_folder(root: Path, workers: int) -> dict[str, Pass]:
    try:
        from torchvision import datasets, transforms
    except ImportError:
        print("torchvision is not installed: no rows of ImageFolder")
        return {}
    views = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    normalised = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]

    def loading(steps: list[object]) -> Pass:
        images = datasets.ImageFolder(str(root), transforms.Compose(steps))
        loader = torch.utils.data.DataLoader(images, BATCH, num_workers=workers)
        return lambda: (batch for batch, _ in loader)

    return {
        "ImageFolder": loading(views + normalised),
        "... in uint8": loading([*views, transforms.PILToTensor()]),
    }


def starving(options: argparse.Namespace, seconds: dict[str, float]) -> None:
    """The step of a network, forward and backward, beside the time that its batch takes."""
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
    taken = statistics.median(step() for _ in range(3 if device.type == "cpu" else 20))
    print(
        f"{options.network} on {device}: {1e3 * taken:.0f} ms a step of {BATCH} images; the batch"
    )
    for name in ("ImageFolder", "off", "kept"):
        if name in seconds:
            print(f"  {name}: {1e3 * seconds[name]:.0f} ms, {seconds[name] / taken:.1%} of it")


def drawn(root: Path, count: int) -> Path:
    """JPEGs of noise whose amplitudes fall with frequency as in photographs, in two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        values = np.zeros((400, 500, 3), dtype=np.float32)
        for octave in range(9):
            shape = (400 // 2**octave + 3, 500 // 2**octave + 3)
            grey, colour = random.normal(size=(*shape, 1)), random.normal(size=(*shape, 3))
            coarse = (grey + 0.3 * colour).astype(np.float32) * 2 ** (0.4 * octave)
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
