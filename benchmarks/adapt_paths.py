"""Does adaptation on cached features reach the same Recall@1 as adaptation on images?

    python benchmarks/adapt_paths.py [--episodes 5] [--steps 100]

Both adapt the last layer of a frozen lite0 to the same 5-shot episodes of Arabic and Hebrew
characters of `glyphs`. One embeds four augmented views of each support image once and adapts all
episodes together. The other decodes, augments, and embeds its batch in every step, one episode
after another. Prints Recall@1 of the queries, the gain and the paired difference with 95% intervals
over episodes, and the times.
"""

import argparse
import time

import numpy as np
import torch

from oodml.adaptation import AdaptSettings
from oodml.adaptation.images import adapt_network
from oodml.adaptation.split import adapt_to_episodes, support_rows
from oodml.analysis.intervals import student_interval
from oodml.backbones import load_backbone
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, HeadSettings, LinearHead
from oodml.shift.splits import Episode
from oodml.vectors import VectorSet

SHOTS, SIZE, DIM, SEED = 5, 64, 64, 0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--episodes", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=100)
    options = arguments.parse_args()
    images = open_images("glyphs")
    scripts = [
        name
        for name in images.class_names
        if images.superclass_of[name].lower() in ("arabic", "hebrew")
    ]
    test = images.subset(scripts)
    model = frozen()
    settings = AdaptSettings(
        iterations=options.steps, lr=1e-3, batch_size=48, metrics=("recall@1",)
    )
    random = np.random.default_rng(SEED)
    episodes = [episode(test, random) for _ in range(options.episodes)]

    def features_of(chosen: ImageSet, view: int | None) -> VectorSet:
        return embed(chosen, "lite0", image_size=SIZE, augmentation="gentle", view=view,
                     cache=False)  # fmt: skip

    start = time.perf_counter()
    cached = adapt_to_episodes(test, features_of, model.head, episodes, settings, SEED)
    middle = time.perf_counter()
    _, through = adapt_network(model, test, support_rows(test, episodes), settings, seed=SEED)
    end = time.perf_counter()
    before = recalls(cached.before)
    print(f"{len(scripts)} classes, {len(episodes)} episodes, {options.steps} steps")
    print(f"before            {before.mean():.4f}")
    show("features", recalls(cached.after), before, middle - start)
    show("images", recalls(through), before, end - middle)
    low, high = student_interval(recalls(cached.after) - recalls(through))[1:3]
    print(f"features - images [{low:+.4f}, {high:+.4f}]")


def show(name: str, after: np.ndarray, before: np.ndarray, seconds: float) -> None:
    gain = student_interval(after - before)
    print(f"{name:<17} {after.mean():.4f}  gain {gain.mean:+.4f} [{gain.low:+.4f}, "
          f"{gain.high:+.4f}]  {seconds:.1f} s")  # fmt: skip


def recalls(results: tuple[dict[str, float], ...]) -> np.ndarray:
    return np.array([metrics["recall@1"] for metrics in results])


def frozen() -> Embedder:
    """A frozen lite0 with a random last layer."""
    settings = HeadSettings(backbone="lite0", image_size=SIZE, dim=DIM, augmentation="gentle")
    backbone = load_backbone("lite0")
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return Embedder(settings, LinearHead(backbone.features, DIM), backbone)


def episode(test: ImageSet, random: np.random.Generator) -> Episode:
    return Episode({
        name: tuple(random.choice(test.ids[test.classes == name], SHOTS, replace=False).tolist())
        for name in test.class_names
    })  # fmt: skip


if __name__ == "__main__":
    main()
