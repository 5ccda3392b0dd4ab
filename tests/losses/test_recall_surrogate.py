import math

import pytest
import torch
from torch import Tensor

import oodml
from tests.losses.loops import sample


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, value))))


def naive(x: Tensor, y: Tensor, ks: tuple[int, ...], steepness: float) -> float:
    losses = []
    for q in range(len(y)):
        positives = [p for p in range(len(y)) if p != q and y[p] == y[q]]
        if not positives:
            continue
        ranks = [
            1 + sum(
                sigmoid(float(x[q] @ x[z] - x[q] @ x[p]) / steepness)
                for z in range(len(y)) if z not in (q, p)
            )
            for p in positives
        ]  # fmt: skip
        recalls = [
            min(k, sum(sigmoid(k - rank) for rank in ranks)) / min(k, len(positives)) for k in ks
        ]
        losses.append(1 - sum(recalls) / len(ks))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("steepness", [0.01, 0.2])
def test_a_loop_over_queries_and_positives(steepness: float) -> None:
    x, y = sample()
    options = {"ks": (1, 2, 4), "rank_temperature": steepness, "mix": False}
    value = oodml.load("losses", "recall_surrogate", **options)(x, y)
    assert value.item() == pytest.approx(naive(x, y, (1, 2, 4), steepness), rel=1e-6)


def test_mixed_rows_are_further_rows_of_their_class() -> None:
    x, y = sample()
    following = {0: 1, 1: 2, 2: 0, 3: 4, 4: 8, 8: 3, 5: 6, 6: 7, 7: 5}
    shares = torch.rand((len(y), 1), generator=torch.Generator().manual_seed(7)).double()
    for share, random in ((0.5, None), (shares, torch.Generator().manual_seed(7))):
        share = torch.as_tensor(share).expand(len(y), 1)
        mixed = [share[i] * x[i] + (1 - share[i]) * x[j] for i, j in following.items()]
        rows = torch.cat([x, torch.stack(mixed)])
        labels = torch.cat([y, y[list(following)]])
        loss = oodml.load("losses", "recall_surrogate", ks=(1, 4), rank_temperature=0.1)
        value = loss(x, y, generator=random)
        assert value.item() == pytest.approx(naive(rows, labels, (1, 4), 0.1), rel=1e-6)
