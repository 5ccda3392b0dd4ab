import numpy as np
import torch

from oodml.evaluate import ranks
from oodml.evaluate.ranks import positive_ranks


def mirrored(n: int) -> tuple[torch.Tensor, np.ndarray]:
    """n positives at distinct angles to the first axis, a negative opposite to each."""
    angles = torch.linspace(0.1, 1.4, n, dtype=torch.float64)
    right = torch.stack([angles.cos(), angles.sin()], 1)
    left = right * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return torch.cat([left, right]), np.repeat([1, 0], n)


def test_ties_of_two_are_decided_by_a_coin() -> None:
    """Positives never tie among themselves, each ties with one negative: rank 2k-1 or 2k."""
    gallery, groups = mirrored(200)
    queries = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(8, -1)
    (block,) = positive_ranks(
        queries,
        np.zeros(8, dtype=np.int64),
        gallery,
        groups,
        euclidean=False,
        generator=torch.Generator().manual_seed(0),
    )
    offsets = block.ranks - 2 * torch.arange(1, 201)
    assert set(offsets.flatten().tolist()) == {-1, 0}
    assert abs(float(offsets.double().mean()) + 0.5) < 4 * 0.5 / 1600**0.5


def test_both_ways_of_counting_agree(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(900, 12, generator=generator, dtype=torch.float64)
    groups = np.arange(900) % 7

    def found() -> torch.Tensor:
        blocks = positive_ranks(
            vectors, groups, None, None, euclidean=True, generator=torch.Generator().manual_seed(1)
        )
        rows = [(block.rows, block.ranks, block.valid) for block in blocks]
        table = torch.zeros(900, 129, dtype=torch.int64)
        for positions, places, valid in rows:
            table[positions, : places.shape[1]] = places * valid
        return table

    compared = found()
    monkeypatch.setattr(ranks, "FEW", 0)
    by_sorting = found()
    monkeypatch.setattr(ranks, "PAIRS", 2**40)
    both_limits = found()
    assert (compared == by_sorting).all()
    assert (compared == both_limits).all()
    assert (compared[:, 0] > 0).all()
