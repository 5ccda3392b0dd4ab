from itertools import combinations

import numpy as np
import pytest
import torch

from oodml.evaluate.ranks import random_subsets, ranks_within_ties


@pytest.mark.parametrize(("total", "size"), [(5, 1), (5, 2), (5, 3), (5, 5), (6, 4)])
def test_all_subsets_are_equally_likely(total: int, size: int) -> None:
    n = 20_000
    totals, sizes = torch.full((n,), total), torch.full((n,), size)
    drawn = random_subsets(totals, sizes, torch.Generator().manual_seed(0))
    subsets, counts = np.unique(drawn.numpy(), axis=0, return_counts=True)
    assert subsets.tolist() == [list(subset) for subset in combinations(range(total), size)]
    expected, count = n / len(subsets), len(subsets)
    assert ((counts - expected) ** 2 / expected).sum() < count + 4 * (2 * count) ** 0.5


def test_subsets_of_different_sizes() -> None:
    generator = torch.Generator().manual_seed(1)
    totals = torch.randint(1, 200, (500,), generator=generator)
    sizes = (torch.rand(500, generator=generator) * totals).long() + 1
    drawn = random_subsets(totals, sizes, generator)
    for row, total, size in zip(drawn, totals, sizes, strict=True):
        subset = row[:size].tolist()
        assert subset == sorted(set(subset))
        assert 0 <= subset[0] <= subset[-1] < total


def test_ranks_within_ties() -> None:
    """One positive without a tie, a tie of two positives, one positive in a tie of three."""
    scores = torch.tensor([[0.9, 0.5, 0.5, 0.2, -torch.inf]])
    above = torch.tensor([[2, 4, 4, 6, 0]])
    level = torch.tensor([[1, 2, 2, 3, 7]])
    valid = scores > -torch.inf
    seen = set()
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        ranks = ranks_within_ties(above, level, scores, valid, generator)[0].tolist()
        assert ranks[:3] == [3, 5, 6]
        seen.add(ranks[3])
    assert seen == {7, 8, 9}
