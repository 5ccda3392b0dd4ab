import math
from pathlib import Path

import torch
from torch.nn import functional

import oodml
from tests.losses._reference import check, read


def test_published_is_the_original(reference: Path) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    loss = oodml.load("losses", "fast_moco", published=True)
    key, queue = arrays["moco_key"], arrays["moco_queue"]
    check(arrays, "fast_moco", lambda x: loss(x, key, queue), inputs="moco_query")


def test_the_default_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, queue = (
        functional.normalize(torch.randn(n, 8, generator=generator), dim=1).double()
        for n in (5, 5, 11)
    )
    values = []
    for q, k in zip(query, key, strict=True):
        weights = []
        for other in queue:
            d = max(torch.dist(q, other).item(), 0.5)
            density = d**6 * (1 - d * d / 4) ** 2.5
            weights.append(1 / density if d < 1.4 else 0.0)
        scale = len(queue) / sum(weights)
        total = math.exp(q @ k)
        for weight, other in zip(weights, queue, strict=True):
            total += scale * weight * math.exp(q @ other)
        values.append(math.log(total) - float(q @ k))
    loss = oodml.load("losses", "fast_moco", temperature=1.0)
    torch.testing.assert_close(loss(query, key, queue).item(), sum(values) / 5)


def test_equal_distances_are_momentum_contrast() -> None:
    query, queue = torch.eye(4)[:1], -0.8 * torch.eye(4)[:1] + 0.6 * torch.eye(4)[1:]
    fast = oodml.load("losses", "fast_moco", highest=2.1)
    torch.testing.assert_close(
        fast(query, query, queue), oodml.load("losses", "moco")(query, query, queue)
    )


def test_a_queue_of_distant_keys_does_not_count() -> None:
    query = torch.eye(4)[:1].requires_grad_()
    loss = oodml.load("losses", "fast_moco")(query, torch.eye(4)[:1], -torch.eye(4)[:1])
    loss.backward()
    assert loss.item() == 0
    assert query.grad is not None
    assert query.grad.isfinite().all()
