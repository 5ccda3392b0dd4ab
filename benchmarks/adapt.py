"""Few-shot adaptation compared with its lower bound and with a loop over episodes.

    python benchmarks/adapt.py [--steps 20] [--rounds 3] [--image-steps 2]

Ten 2-shot episodes of 98 classes, batches of 112 images, 2048-dimensional features, 512-dimensional
embeddings, margin loss with distance-weighted negatives. Times are for one step of all ten
episodes, the median over rounds; CPU time with OMP_NUM_THREADS=1, otherwise wall time:

- floor: the two batched products of the layer (forward, gradient) and a fused Adam step, without
  a loss;
- ours: `oodml.adaptation`, all episodes at once;
- loop: one episode after another on the same cached features, with an ordinary linear layer and a
  Python loop over the triplets for mining and loss, which is the structure of the original code;
- images: the loop with the image work of the original code: each step decodes, augments, and
  embeds its 112 images with a ResNet-50.

Then the time of 1000 steps, ours with each view of the support images embedded once, and Recall@1
of the queries after the steps made here, with 95% intervals over episodes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

import oodml
from oodml.adaptation import AdaptSettings, Heads
from oodml.adaptation.heads import train_heads
from oodml.adaptation.support import Support, support_of
from oodml.analysis.intervals import student_interval
from oodml.embedding import evaluation_mode
from oodml.images.image_set import ImageSet
from oodml.images.transforms import batches, recipe, train_views
from oodml.miners.distance import negative_probabilities

EPISODES, CLASSES, SHOTS, IMAGES, BATCH, FEATURES, DIM = 10, 98, 2, 22, 112, 2048, 512
STEPS, LR = 1000, 1e-4


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--image-steps", type=int, default=2)
    options = arguments.parse_args()
    features, head, support = problem()
    floors, ours, loops = [], [], []
    for _ in range(options.rounds):
        floors.append(seconds(lambda: floor(features, head, options.steps)) / options.steps)
        ours.append(seconds(lambda: adapt(features, head, support, options.steps)) / options.steps)
        loops.append(seconds(lambda: loop(features, head, support, 1)))
    step = statistics.median(ours)
    bare, slow = statistics.median(floors), statistics.median(loops)
    print(f"{torch.get_num_threads()} threads; one step of {EPISODES} episodes")
    line("floor", bare, step)
    line("ours", step, step)
    line("loop", slow, step)
    if options.image_steps:
        image_job(slow, step, options.image_steps)
    compare(features, head, support, options.steps)


def line(name: str, value: float, ours: float) -> None:
    print(f"{name:>8}  {value * 1e3:10.1f} ms   {value / ours:8.2f} of ours")


def seconds(work: Callable[[], object]) -> float:
    """CPU time on one thread, which other programs hardly affect; otherwise wall time."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    work()
    return clock() - start


def problem() -> tuple[Tensor, Heads, list[Support]]:
    """Features [n f] of noisy classes, a random head, and each episode's support."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(CLASSES, 1, FEATURES, generator=random)
    noise = 4 * torch.randn(CLASSES, IMAGES, FEATURES, generator=random)
    features = (centers + noise).relu().flatten(0, 1)
    head = Heads(
        torch.randn(1, DIM, FEATURES, generator=random) / FEATURES**0.5, torch.zeros(1, DIM)
    )
    support = [
        support_of(
            {
                str(name): [name * IMAGES + SHOTS * episode + k for k in range(SHOTS)]
                for name in range(CLASSES)
            }
        )
        for episode in range(EPISODES)
    ]
    return features, head, support


def floor(features: Tensor, head: Heads, steps: int) -> None:
    heads = head.repeated(EPISODES)
    rows = features[: EPISODES * BATCH].view(EPISODES, BATCH, FEATURES)
    gradient = torch.full((EPISODES, BATCH, DIM), 1e-3)
    heads.weight.grad = torch.zeros_like(heads.weight)
    optimizer = torch.optim.Adam([heads.weight], lr=LR, fused=True)
    for _ in range(steps):
        torch.bmm(rows, heads.weight.transpose(1, 2))
        torch.bmm(gradient.transpose(1, 2), rows, out=heads.weight.grad)
        optimizer.step()


def adapt(features: Tensor, head: Heads, support: list[Support], steps: int) -> Heads:
    generators = [torch.Generator().manual_seed(episode) for episode in range(EPISODES)]
    settings = AdaptSettings(lr=LR, batch_size=BATCH)
    return train_heads(head, features[:, None], support, generators, settings, steps)


def loop(features: Tensor, head: Heads, support: list[Support], steps: int) -> list[nn.Linear]:
    """Adapt one episode after another, triplet by triplet."""
    random = np.random.default_rng(0)
    adapted = []
    for one in support:
        layer = head.module(nn.Identity()).linear
        optimizer = torch.optim.Adam(layer.parameters(), lr=LR)
        for _ in range(steps):
            classes = random.choice(CLASSES, BATCH // SHOTS, replace=False)
            labels = np.repeat(classes, SHOTS)
            rows = one.members[torch.from_numpy(classes)].flatten()
            loss = margin_by_triplet(normalize(layer(features[rows]), dim=1), labels, random)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        adapted.append(layer)
    return adapted


def margin_by_triplet(
    embeddings: Tensor, labels: NDArray[np.int64], random: np.random.Generator
) -> Tensor:
    different = torch.from_numpy(labels[:, None] != labels)
    likely = negative_probabilities(embeddings.detach(), different).double().numpy()
    terms, active = [], 0
    for anchor, row in enumerate(likely):
        same = np.flatnonzero(labels == labels[anchor])
        positive = random.choice(same[same != anchor])
        negative = random.choice(len(labels), p=row / row.sum())
        near = (embeddings[anchor] - embeddings[positive]).square().sum().add(1e-8).sqrt()
        far = (embeddings[anchor] - embeddings[negative]).square().sum().add(1e-8).sqrt()
        pull, push = (near - 1.0).relu(), (1.4 - far).relu()
        active += bool(pull > 0 or push > 0)
        terms.append(pull + push)
    return torch.stack(terms).sum() / max(active, 1)


def image_job(slow: float, step: float, steps: int) -> None:
    """Print the time of the whole adaptation, including images."""
    with tempfile.TemporaryDirectory() as folder:
        image = image_seconds(Path(folder), steps)
    views = AdaptSettings().views
    original = STEPS * (slow + EPISODES * BATCH * image)
    once = EPISODES * CLASSES * SHOTS * views * image
    line("images", original / STEPS, step)
    print(f"\n{STEPS} steps with images, {image * 1e3:.0f} ms to decode and embed one:")
    print(f"    ours  {once + STEPS * step:10.0f} s, of which {once:.0f} s for {views} views")
    print(f"  images  {original:10.0f} s = {original / (once + STEPS * step):.0f} times ours")


def image_seconds(folder: Path, steps: int) -> float:
    """Time to decode, augment, and embed an image with a ResNet-50, in training batches."""
    import timm

    random = np.random.default_rng(0)
    ids = [f"{number}.jpg" for number in range(BATCH)]
    for name in ids:
        pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((500, 375)).save(folder / name)
    images = ImageSet("noise", np.array(ids), np.array(["a"] * BATCH), root=folder)
    network = timm.create_model("resnet50", pretrained=False, num_classes=0)
    jobs = [
        (np.arange(BATCH), train_views(images, 224, recipe("base"), step)) for step in range(steps)
    ]
    with evaluation_mode(network):
        spent = seconds(lambda: [network(batch.float() / 255) for batch in batches(jobs)])
    return spent / steps / BATCH


def compare(features: Tensor, head: Heads, support: list[Support], steps: int) -> None:
    labels = np.repeat(np.arange(CLASSES), IMAGES)
    ours = adapt(features, head, support, steps)
    layers = loop(features, head, support, steps)
    print(f"\nRecall@1 of the queries after {steps} steps, 95% interval over the episodes:")
    scores: dict[str, list[float]] = {"before": [], "ours": [], "loop": []}
    for episode, one in enumerate(support):
        queries = np.setdiff1d(np.arange(len(labels)), one.members.numpy())
        with torch.no_grad():
            result = {
                "before": head.embed(features[None])[0],
                "ours": ours[episode].embed(features[None])[0],
                "loop": normalize(layers[episode](features), dim=1),
            }
        for name, vectors in result.items():
            metrics = oodml.retrieval_metrics(vectors[queries].numpy(), labels[queries], ks=(1,))
            scores[name].append(metrics["recall@1"])
    for name, values in scores.items():
        interval = student_interval(values)
        print(f"{name:>8}  {interval.mean:.4f}  [{interval.low:.4f}, {interval.high:.4f}]")


if __name__ == "__main__":
    main()
