import numpy as np
import pytest
import torch

from oodml.evaluate import ranks
from oodml.evaluate.protocol import RetrievalProtocol
from oodml.evaluate.ranks import positive_ranks


def mirrored(n: int) -> tuple[torch.Tensor, np.ndarray]:
    """n positives at distinct angles to the first axis, a negative opposite to each."""
    angles = torch.linspace(0.1, 1.4, n, dtype=torch.float64)
    right = torch.stack([angles.cos(), angles.sin()], 1)
    left = right * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return torch.cat([left, right]), np.repeat([1, 0], n)


def test_a_coin_decides_ties_of_two() -> None:
    """Positives never tie among themselves, each ties with one negative: rank 2k-1 or 2k."""
    gallery, groups = mirrored(200)
    queries = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(8, -1)
    protocol = RetrievalProtocol(queries, np.zeros(8, dtype=np.int64), gallery, groups)
    generator = torch.Generator().manual_seed(0)
    (block,) = positive_ranks(protocol, distance="cosine", generator=generator)
    offsets = block.ranks - 2 * torch.arange(1, 201)
    assert set(offsets.flatten().tolist()) == {-1, 0}
    assert abs(float(offsets.double().mean()) + 0.5) < 4 * 0.5 / 1600**0.5


def test_both_ways_of_counting_agree(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(900, 12, generator=generator, dtype=torch.float64)
    groups = np.arange(900) % 7

    def all_ranks() -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        table = torch.zeros(900, 129, dtype=torch.int64)
        for block in positive_ranks(
            RetrievalProtocol(vectors, groups), distance="euclidean", generator=generator
        ):
            table[block.rows, : block.ranks.shape[1]] = block.ranks * block.valid
        return table

    compared = all_ranks()
    monkeypatch.setattr(ranks, "SORT_ABOVE", 0)
    by_sorting = all_ranks()
    monkeypatch.setattr(ranks, "PAIRS", 2**40)
    both_limits = all_ranks()
    assert (compared == by_sorting).all()
    assert (compared == both_limits).all()
    assert (compared[:, 0] > 0).all()


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("n_classes", [3, 12, 250])
def test_products_that_serve_both_ways_give_the_same_ranks(
    monkeypatch, distance: str, n_classes: int
) -> None:
    """Some classes have one image, and with three classes the blocks are as wide as a class."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(600, 12, generator=generator, dtype=torch.float64)
    groups = np.concatenate([np.arange(580) % n_classes, 1000 + np.arange(20)])

    def all_ranks() -> torch.Tensor:
        table = torch.zeros(600, 600, dtype=torch.int64)
        protocol, source = RetrievalProtocol(vectors, groups), torch.Generator().manual_seed(1)
        for block in positive_ranks(protocol, distance=distance, generator=source):
            table[block.rows, : block.ranks.shape[1]] = block.ranks * block.valid
        return table

    one_way = all_ranks()
    assert not ranks._symmetric_blocks(ranks._layout(RetrievalProtocol(vectors, groups)))
    monkeypatch.setattr(ranks, "SYMMETRIC_ABOVE", 100)
    monkeypatch.setattr(ranks, "TILE", 7)
    assert len(ranks._symmetric_blocks(ranks._layout(RetrievalProtocol(vectors, groups)))) > 1
    assert (all_ranks() == one_way).all()
    assert (one_way[:580, 0] > 0).all()
    assert not one_way[580:].any()
