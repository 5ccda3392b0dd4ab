"""What a training step of each method costs beside one of margin, on cached features.

    python benchmarks/methods.py [--rounds 15] [--threads 1]

A step: head forward, loss terms, backward, Adam, the method's own step; a batch of 56 classes × 2,
features of 2048 dimensions, embeddings of 512, CPU time of the process, medians of rounds in which
all methods take turns. The floor is the head with no loss at all. In finetune mode the backbone's
pass comes on top for all; DiVA runs it a second time, forward only, for its second view.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import normalize

import oodml
from oodml import catalog
from oodml.methods._base import Batch, MomentumMethod, Sizes
from oodml.model import Embedder, HeadSettings, LinearHead
from oodml.randomness import generator, isolated

SIZES = Sizes(n_classes=100, dim=512, feature_dim=2048)
LABELS = torch.arange(112) // 2
OBJECTIVES: dict[str, dict[str, Any]] = {
    name: {"loss": name}
    for name in ("supcon", "recall_surrogate", "proxy_nca_pp", "pfml", "tcm", "language")
} | {
    "hyp": {"loss": "hyp", "space": "poincare"},
    "hier": {"loss": "hier", "space": "poincare"},
    "multisimilarity, dims": {"loss": "multisimilarity", "dims": [128, 256, 512]},
    "multisimilarity, memory": {"loss": "multisimilarity", "memory": 1120},
}
"""Options of the method criterion."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = [name for name in oodml.names("methods") if catalog.get_class("methods", name).trains]
    steps = {"(floor)": floor()} | {name: stepper(name) for name in [*names, *OBJECTIVES]}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 2):
        for name, step in steps.items():
            started = time.process_time()
            step(turn)
            if turn >= 2:
                seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'method':24} {'ms':>7} {'/ margin':>9}")
    for name, value in medians.items():
        print(f"{name:24} {1e3 * value:7.2f} {value / medians['margin']:9.2f}")


def floor() -> Callable[[int], None]:
    """The head with the sum of its outputs for a loss."""
    head, random = LinearHead(SIZES.feature_dim, SIZES.dim), generator(0)
    features = torch.randn(len(LABELS), SIZES.feature_dim, generator=random).relu()
    optimizer = torch.optim.Adam(head.parameters(), fused=True)

    def step(_: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        head(features)["embedding"].sum().backward()
        optimizer.step()

    return step


def stepper(name: str) -> Callable[[int], None]:
    """A step of a method, with its defaults."""
    given = {"loss": "triplet", "miner": "semihard"} if name == "criterion" else {}
    given, name = (OBJECTIVES[name], "criterion") if name in OBJECTIVES else (given, name)
    random = generator(0)
    with isolated(0):
        method = catalog.load("methods", name, sizes=SIZES, **given)
        head = method.head() or LinearHead(SIZES.feature_dim, SIZES.dim)
    model = Embedder(HeadSettings(dim=SIZES.dim), head)
    method.prepare(model)
    centers = torch.randn(56, SIZES.feature_dim, generator=random)[LABELS]
    views = (centers + 2 * torch.randn(2, *centers.shape, generator=random)).relu()
    groups = [{"params": list(head.parameters()), "weight_decay": 4e-4}]
    optimizer = torch.optim.Adam(groups + method.parameter_groups(1e-4), lr=1e-4, fused=True)

    if isinstance(method, MomentumMethod):  # the cost of a step once the queue is full
        dim = head(views[0])[method.key_output].shape[1]
        keys = normalize(torch.randn(method.queue_batches, 112, dim, generator=random), dim=2)
        method.queue = list(keys)

    def step(turn: int) -> None:
        batch = Batch(views[0], head(views[0]), LABELS, turn, random, second_features=views[1])
        total = torch.stack(list(method.terms(batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        method.after_step(batch, model)

    return step


if __name__ == "__main__":
    main()
