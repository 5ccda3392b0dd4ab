"""Losses with their miners, forward and backward, compared with loops and a library.

    python benchmarks/losses.py [--rounds 30] [--threads 1] [--rows 112] [--dim 512]

A batch of 56 classes × 2 on the unit sphere, 512 dimensions, CPU. Times are medians over rounds in
which all implementations alternate. They are CPU times of the process (of all threads together), so
other work on the machine does not count:

- floor: the product of the batch with itself and its gradient, which any pairwise loss needs;
- ours: oodml's loss and miner;
- loop: one triplet or anchor after another, as in the original study;
- pml: pytorch-metric-learning's loss with its own miner.

Ratios are the times of loop and pml divided by ours; above 1, ours is faster.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from pytorch_metric_learning import losses as pml_losses
from pytorch_metric_learning import miners as pml_miners
from torch import Tensor
from torch.nn.functional import normalize

import oodml

Step = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=112)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(options.rows) // 2
    centers = torch.randn(len(labels) // 2, options.dim, generator=random)[labels]
    noise = torch.randn(options.rows, options.dim, generator=random)
    embeddings = normalize(centers + 3 * noise, dim=1)
    floor = timed({"floor": floor_step}, embeddings, labels, options.rounds)["floor"]
    print(f"floor {1e3 * floor:.2f} ms; {options.threads} threads, torch {torch.__version__}")
    print(
        f"{'loss':24} {'ours ms':>8} {'loop ms':>8} {'pml ms':>8} {'loop/ours':>10} {'pml/ours':>9}"
    )
    for name, forms in comparisons(int(labels.max()) + 1, options.dim).items():
        seconds = timed(forms, embeddings, labels, options.rounds)
        print(f"{name:24} " + row(seconds))


def row(seconds: dict[str, float]) -> str:
    ours = seconds["ours"]
    cells = [f"{1e3 * seconds[form]:8.2f}" if form in seconds else " " * 8 for form in FORMS]
    ratios = [
        f"{seconds[form] / ours:{w}.1f}" if form in seconds else " " * w for form, w in WIDTHS
    ]
    return " ".join(cells + ratios)


FORMS = ("ours", "loop", "pml")
WIDTHS = (("loop", 10), ("pml", 9))


def timed(
    forms: dict[str, Step], embeddings: Tensor, labels: Tensor, rounds: int
) -> dict[str, float]:
    """Median seconds per step of each implementation; they alternate."""
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for turn in range(rounds + 2):
        for form, step in forms.items():
            leaf = embeddings.clone().requires_grad_()
            started = time.process_time()
            step(leaf, labels).backward()
            if turn >= 2:
                seconds[form].append(time.process_time() - started)
    return {form: statistics.median(values) for form, values in seconds.items()}


def comparisons(n_classes: int, dim: int) -> dict[str, dict[str, Step]]:
    """The implementations of each loss."""
    sizes = {"n_classes": n_classes, "dim": dim}
    semihard = {"type_of_triplets": "semihard", "margin": 0.2}
    return {
        "margin, distance": {
            "ours": ours("margin", "distance", n_classes=n_classes),
            "loop": MarginLoop(n_classes),
            "pml": pml("MarginLoss", "DistanceWeightedMiner", learn_beta=True, n_classes=n_classes),
        },
        "triplet, semihard": {
            "ours": ours("triplet", "semihard"),
            "loop": triplet_loop,
            "pml": pml("TripletMarginLoss", "TripletMarginMiner", semihard, margin=0.2),
        },
        "multisimilarity": {
            "ours": ours("multisimilarity"),
            "loop": multisimilarity_loop,
            "pml": pml("MultiSimilarityLoss", "MultiSimilarityMiner", beta=40),
        },
        "contrastive, random": {
            "ours": ours("contrastive", "random"),
            "pml": pml("ContrastiveLoss"),
        },
        "angular + N-pair": {"ours": ours("angular", "npair"), "pml": PmlAngular()},
        "arcface": {"ours": ours("arcface", **sizes), "pml": pml("ArcFaceLoss", **sizes)},
        "proxy_anchor": {
            "ours": ours("proxy_anchor", **sizes),
            "pml": pml("ProxyAnchorLoss", **sizes),
        },
        "proxy_nca": {"ours": ours("proxy_nca", **sizes), "pml": pml("ProxyNCALoss", **sizes)},
    }


def floor_step(embeddings: Tensor, labels: Tensor) -> Tensor:
    return (embeddings @ embeddings.T).sum()


def ours(loss_name: str, miner_name: str | None = None, **options: object) -> Step:
    loss = oodml.load("losses", loss_name, **options)
    if miner_name is None:
        return loss
    miner, random = oodml.load("miners", miner_name), torch.Generator().manual_seed(0)
    return lambda x, y: loss(x, y, *miner.masked(x, y, random))


def pml(
    loss_name: str,
    miner_name: str | None = None,
    miner_options: dict[str, object] | None = None,
    **options: object,
) -> Step:
    names = {"n_classes": "num_classes", "dim": "embedding_size"}
    given = {names.get(key, key): value for key, value in options.items()}
    loss = getattr(pml_losses, loss_name)(**given)
    if miner_name is None:
        return loss
    miner = getattr(pml_miners, miner_name)(**(miner_options or {}))
    return lambda x, y: loss(x, y, miner(x, y))


class PmlAngular:
    """The N-pair loss plus twice the angular loss, as in oodml."""

    def __init__(self) -> None:
        self.angular, self.npair = pml_losses.AngularLoss(alpha=45), pml_losses.NPairsLoss()

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return self.npair(x, y) + 2 * self.angular(x, y) + 0.005 * x.norm(dim=1).mean()


class MarginLoop:
    """Distance-weighted mining in numpy, then one triplet after another."""

    def __init__(self, n_classes: int) -> None:
        self.beta = torch.full((n_classes,), 1.2, requires_grad=True)
        self.random = np.random.default_rng(0)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        labels = y.numpy()
        between = torch.cdist(x.detach(), x.detach()).clamp(min=0.5).numpy().astype(np.float64)
        dim, pulls, pushes = x.shape[1], [], []
        for a in range(len(labels)):
            d = between[a]
            log_weights = (2 - dim) * np.log(d) - (dim - 3) / 2 * np.log(1 - d * d / 4)
            log_weights[labels == labels[a]] = -np.inf
            weights = np.exp(log_weights - log_weights.max())
            n = self.random.choice(len(labels), p=weights / weights.sum())
            p = self.random.choice(np.flatnonzero(other(labels, a)))
            beta = self.beta[y[a]]
            pulls.append(((x[a] - x[p]).square().sum() + 1e-8).sqrt() - beta + 0.2)
            pushes.append(beta - ((x[a] - x[n]).square().sum() + 1e-8).sqrt() + 0.2)
        pull, push = torch.stack(pulls).relu(), torch.stack(pushes).relu()
        return (pull + push).sum() / ((pull > 0) | (push > 0)).sum().clamp(min=1)


def other(labels: np.ndarray, a: int) -> np.ndarray:
    """Other rows of the anchor's class."""
    return (labels == labels[a]) & (np.arange(len(labels)) != a)


def triplet_loop(x: Tensor, y: Tensor) -> Tensor:
    """Semi-hard mining in numpy, then one triplet after another."""
    random = np.random.default_rng(0)
    labels, between = y.numpy(), torch.cdist(x.detach(), x.detach()).numpy()
    terms = []
    for a in range(len(labels)):
        p = random.choice(np.flatnonzero(other(labels, a)))
        negative = labels != labels[a]
        hard = negative & (between[a] > between[a, p]) & (between[a] < between[a, p] + 0.2)
        n = random.choice(np.flatnonzero(hard if hard.any() else negative))
        near, far = (x[a] - x[p]).square().sum(), (x[a] - x[n]).square().sum()
        terms.append((near - far + 0.2).relu())
    return torch.stack(terms).mean()


def multisimilarity_loop(x: Tensor, y: Tensor) -> Tensor:
    """One anchor after another."""
    similarities = x @ x.T
    terms = []
    for a in range(len(y)):
        s = similarities[a]
        others = torch.arange(len(y)) != a
        positives, negatives = s[(y == y[a]) & others], s[y != y[a]]
        pulls = positives[positives - 0.1 < negatives.max()]
        pushes = negatives[negatives + 0.1 > positives.min()]
        if len(pulls) and len(pushes):
            pull = torch.log(1 + torch.exp(-2 * (pulls - 0.5)).sum()) / 2
            terms.append(pull + torch.log(1 + torch.exp(40 * (pushes - 0.5)).sum()) / 40)
    return torch.stack(terms).mean() if terms else 0 * x.sum()


if __name__ == "__main__":
    main()
