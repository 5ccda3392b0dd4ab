import pytest
import torch
from torch import Tensor

import oodml
from oodml.losses._base import ball_distances, to_ball
from tests.losses.loops import sample


def naive(points: Tensor, proxies: Tensor, same: Tensor, margin: float, neighbors: int) -> float:
    """The sum over rows of their nearest related and unrelated rows, one triplet at a time."""
    n = len(points)
    between, to_proxy = ball_distances(points, points, 0.1), ball_distances(points, proxies, 0.1)
    closeness = (-between).exp() + same.double()
    near = [set(closeness[i].topk(min(neighbors, (n + 1) // 2)).indices.tolist()) for i in range(n)]
    terms: list[float] = []
    for i in range(n):
        order = closeness[i].argsort(descending=True).tolist()
        related = [j for j in order if j != i and j in near[i] and i in near[j]]
        unrelated = [k for k in order if k != i and k not in related]
        for j, k in list(zip(related, unrelated, strict=False))[:4]:
            largest = [max(to_proxy[i][p], to_proxy[j][p]) for p in range(len(proxies))]
            low = min(range(len(proxies)), key=largest.__getitem__)
            largest = [max(largest[p], to_proxy[k][p]) for p in range(len(proxies))]
            high = min(range(len(proxies)), key=largest.__getitem__)
            gaps = [to_proxy[row][low] - to_proxy[row][high] for row in (i, j)]
            gaps.append(to_proxy[k][high] - to_proxy[k][low])
            term = sum(max(0.0, float(gap) + margin) for gap in gaps)
            terms.append(term if low != high else 0.0)
    return sum(terms) / max(1, len(terms))


def test_a_loop_over_triplets() -> None:
    x, y = sample(unit=False)
    random = torch.Generator().manual_seed(5)
    options = {"dim": 5, "proxies": 6, "margin": 0.3, "neighbors": 4, "generator": random}
    loss = oodml.load("losses", "hier", **options).double()
    points, proxies = to_ball(x, 0.1, 2.3), to_ball(loss.proxies.detach(), 0.1, 2.3)
    expected = naive(points, proxies, y[:, None] == y, 0.3, 4)
    expected += naive(proxies, proxies, torch.zeros(6, 6), 0.3, 4)
    assert loss(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_drawn_triplets_are_reproducible_and_reach_the_proxies() -> None:
    x, y = sample(unit=False)
    loss = oodml.load("losses", "hier", dim=5, proxies=6).double()
    one, same, other = (
        loss(x, y, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    one.backward()
    assert loss.proxies.grad.abs().sum() > 0
