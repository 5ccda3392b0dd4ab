"""One training step of oodml compared with a plain PyTorch loop of the same network and loss.

    python benchmarks/step.py [--batch 112] [--steps 20] [--rounds 5] [--threads 2]

ResNet-50, untrained, 224 pixels, channels_last, frozen batch norm, a layer to 512 dimensions,
margin loss with distance-weighted negatives, Adam. The two loops alternate on the same uint8 images
in memory; times are medians over rounds, in fp32 and on CUDA also in bf16. A second comparison uses
a network that costs almost nothing. It shows the rest of the step (head, mining, loss, optimizer,
logging) as a share of the step with ResNet-50, and what it costs beyond the plain loop. Targets: at
least 95% of the plain loop's images/s in bf16, and at most 10% of the step beyond network and loss.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oodml import catalog
from oodml.backbones import Backbone, load_backbone
from oodml.devices import resolve_device
from oodml.methods._base import Sizes
from oodml.methods._mined import MinedLoss
from oodml.model import Embedder, FinetuneSettings, LinearHead
from oodml.randomness import generator, isolated
from oodml.training.loop import train
from oodml.training.settings import TrainSettings
from oodml.training.sources import Views

FEATURES, DIM, CLASSES, WARM = 2048, 512, 100, 2
FREE = "__main__:mean_color"


@dataclass(frozen=True)
class Case:
    """What is timed; `size` is the side of the images in pixels."""

    backbone: str
    size: int
    precision: str
    batch: int
    steps: int
    device: torch.device


def main() -> None:
    device = resolve_device()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cuda = device.type == "cuda"
    parser.add_argument("--batch", type=int, default=112 if cuda else 16)
    parser.add_argument("--steps", type=int, default=20 if cuda else 2)
    parser.add_argument("--rounds", type=int, default=5 if cuda else 3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    print(f"{name}, {options.threads} threads, batch {options.batch}, torch {torch.__version__}")
    print(f"{'network':12} {'precision':10} {'ours ms':>9} {'plain ms':>9} {'ours/plain':>11}")
    for precision in ("fp32", "bf16") if cuda else ("fp32",):
        sizes = (precision, options.batch, options.steps, device)
        whole, _ = compare(Case("resnet50", 224, *sizes), options.rounds)
        free = Case(FREE, 8, precision, options.batch, 10 * options.steps, device)
        ours, plain = compare(free, options.rounds)
        print(f"  without the network: {100 * ours / whole:.1f}% of the step; our loop beyond the "
              f"plain one: {100 * (ours - plain) / whole:.2f}%")  # fmt: skip


def compare(case: Case, rounds: int) -> tuple[float, float]:
    """Measure and print the milliseconds per step of both loops, which alternate."""
    ours, plain = [], []
    for _ in range(rounds):
        ours.append(time_ours(case))
        plain.append(time_plain(case))
    a, b = statistics.median(ours), statistics.median(plain)
    label = "none" if case.backbone == FREE else case.backbone
    print(f"{label:12} {case.precision:10} {a:9.2f} {b:9.2f} {a / b:11.3f}", flush=True)
    return a, b


def mean_color(weights: str | None = None) -> Backbone:
    """A network that costs almost nothing: features of the mean color."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, FEATURES, 1))
    return Backbone(network, FEATURES, 8)


class ImagesInMemory:
    """A source of images in memory; its clock ticks when a batch is requested."""

    def __init__(self, case: Case) -> None:
        count = case.batch * (case.steps + WARM)
        self.labels: NDArray[np.int64] = np.arange(count) % min(CLASSES, count // 2)
        shape = (case.batch, 3, case.size, case.size)
        random = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
        self.images = self.images.to(case.device)
        self.clock = Clock(case)

    def batches(
        self, rows: Iterator[NDArray[np.int64]], seed: int, n_views: int
    ) -> Iterator[Views]:
        for chosen in rows:
            self.clock.tick()
            assert len(chosen) == len(self.images)
            yield Views(chosen, images=[self.images])
        self.clock.tick()


class Clock:
    """Measures the time per step without warm-up: CPU time on one thread, else wall time."""

    def __init__(self, case: Case) -> None:
        self.case, self.ticks, self.started, self.stopped = case, 0, 0.0, 0.0
        single = case.device.type == "cpu" and torch.get_num_threads() == 1
        self.now = time.process_time if single else time.perf_counter

    def tick(self) -> None:
        if self.ticks in (WARM, WARM + self.case.steps) and self.case.device.type == "cuda":
            torch.cuda.synchronize()
        if self.ticks == WARM:
            self.started = self.now()
        self.stopped = self.now()
        self.ticks += 1

    def milliseconds(self) -> float:
        """The time per step."""
        assert self.ticks == WARM + self.case.steps + 1
        return 1000 * (self.stopped - self.started) / self.case.steps


def build(case: Case) -> Embedder:
    settings = FinetuneSettings(
        backbone=case.backbone, weights="none", dim=DIM, image_size=case.size
    )
    with isolated(0):
        backbone = load_backbone(case.backbone, "none")
        return Embedder(settings, LinearHead(FEATURES, DIM), backbone)


def time_ours(case: Case) -> float:
    model, source = build(case), ImagesInMemory(case)
    with isolated(0):
        method = catalog.load("methods", "margin", sizes=Sizes(CLASSES, DIM, FEATURES))
    settings = TrainSettings(epochs=1, batch_size=case.batch, precision=case.precision)
    train(model, method, source, settings, seed=0, device=case.device)
    return source.clock.milliseconds()


def time_plain(case: Case) -> float:
    """A loop written for this network and loss only."""
    layout = torch.channels_last
    model, source = build(case), ImagesInMemory(case)
    backbone = model.require_backbone()
    network = backbone.network.to(case.device, memory_format=layout)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    extract = getattr(network, "forward_features", network)
    head = model.head.to(case.device)
    mean, std = (getattr(backbone, name).to(case.device) for name in ("mean", "std"))
    loss = MinedLoss(CLASSES, DIM, "margin", "distance").to(case.device)
    parameters = [*network.parameters(), *head.parameters(), *loss.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-5, fused=True)
    random, losses = generator(0), []
    labels = torch.arange(case.batch, device=case.device) // 2
    for _ in range(case.steps + WARM):
        source.clock.tick()
        images = ((source.images.float() / 255 - mean) / std).to(memory_format=layout)
        with torch.autocast(case.device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            pooled: Tensor = extract(images).mean((2, 3))
        embeddings = nn.functional.normalize(head.linear(pooled.float()), dim=1)
        value = loss(embeddings, labels, random)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        losses.append(value.detach())
    source.clock.tick()
    return source.clock.milliseconds()


if __name__ == "__main__":
    main()
