import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner

import oodml


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 6, generator=generator), torch.arange(12) % 4


def test_a_loss_by_its_name(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = oodml.load("losses", "pml.SupConLoss", temperature=0.2)
    torch.testing.assert_close(loss(*batch), SupConLoss(temperature=0.2)(*batch))


def test_size_options_are_renamed(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = oodml.load("losses", "pml.SoftTripleLoss", n_classes=4, dim=6, la=5)
    loss(*batch).backward()
    (group,) = loss.parameter_groups(0.1)
    assert [p.shape for p in group["params"]] == [loss.inner.fc.shape]


def test_a_miner_by_its_name(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    triplets = oodml.load("miners", "pml.MultiSimilarityMiner", epsilon=0.5)(*batch, generator)
    anchors, positives, other, negatives = MultiSimilarityMiner(epsilon=0.5)(*batch)
    expected = {
        (int(a), int(p), int(n))
        for a, p in zip(anchors, positives, strict=True)
        for b, n in zip(other, negatives, strict=True)
        if a == b
    }
    assert {tuple(row) for row in triplets.tolist()} == expected


def test_a_random_miner_obeys_the_generator(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    miner = oodml.load("miners", "pml.DistanceWeightedMiner")
    before = torch.random.get_rng_state()
    first, second = (miner(*batch, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pml.SupConLos", {}, "Did you mean 'pml.SupConLoss'"),
        ("pml.SupConLoss", {"temprature": 1}, "Did you mean 'temperature'"),
        ("pml.ArcFaceLoss", {"dim": 3}, "num_classes"),
    ],
)
def test_errors(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(oodml.OodmlError, match=message):
        oodml.load("losses", name, **options)
