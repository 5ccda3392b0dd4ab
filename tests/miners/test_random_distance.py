import torch

import oodml


def test_labels_may_be_permuted() -> None:
    y = torch.arange(60) % 30
    x = torch.nn.functional.normalize(
        torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), dim=1
    )
    permuted = oodml.load("miners", "random_distance", permute_labels=True)
    anchor, positive, _ = permuted(x, y, torch.Generator().manual_seed(1)).unbind(1)
    assert (y[anchor] == y[positive]).float().mean() < 0.2
    assert len(anchor) == 60


def test_without_permutation_it_equals_the_distance_miner() -> None:
    y, x = torch.arange(12) % 4, torch.eye(12)
    uniform = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    plain = oodml.load("miners", "random_distance").choose(x, y, uniform)
    assert torch.equal(plain[0], oodml.load("miners", "distance").choose(x, y, uniform)[0])
