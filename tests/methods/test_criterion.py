from typing import Any

import pytest
import torch
from torch import Tensor, nn

import oodml
from oodml import catalog
from oodml.losses._base import all_triplets
from oodml.methods._base import Batch, Sizes

SIZES = Sizes(n_classes=3, dim=4, feature_dim=5)


class OwnLoss(nn.Module):
    """A user's loss with a size option and a parameter, and without a mask."""

    def __init__(self, n_classes: int, power: float = 2.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_classes))
        self.power = power

    def forward(self, embeddings: Tensor, labels: Tensor, triplets: Tensor) -> Tensor:
        rows = embeddings[triplets]
        return ((rows[:, 0] - rows[:, 1]) ** self.power).sum() * self.scale.sum()


class OwnMiner:
    """A user's miner without `masked`."""

    def __call__(self, embeddings: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return all_triplets(labels)[:2]


def terms(**options: Any) -> tuple[dict[str, Tensor], Batch]:
    method = catalog.load("methods", "criterion", sizes=SIZES, **options)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 3
    batch = Batch(torch.zeros(6, 5), {"embedding": x}, y, 0, torch.Generator().manual_seed(3))
    return method.terms(batch), batch


def test_the_term_is_the_loss_on_mined_triplets() -> None:
    losses, batch = terms(loss="triplet", miner="distance", loss_options={"margin": 0.5})
    random = torch.Generator().manual_seed(3)
    triplets = oodml.load("miners", "distance")(batch.embeddings, batch.labels, random)
    loss = oodml.load("losses", "triplet", margin=0.5)
    expected = loss(batch.embeddings, batch.labels, triplets)
    torch.testing.assert_close(losses, {"triplet": expected})


def test_user_losses_and_miners() -> None:
    here = "tests.methods.test_criterion"
    options = {"loss": f"{here}:OwnLoss", "miner": f"{here}:OwnMiner"}
    losses, batch = terms(**options, loss_options={"power": 4.0})
    own = OwnLoss(3, 4.0)(batch.embeddings, batch.labels, all_triplets(batch.labels)[:2])
    torch.testing.assert_close(next(iter(losses.values())), own)
    method = catalog.load("methods", "criterion", sizes=SIZES, **options)
    (group,) = method.parameter_groups(0.5)
    assert group["lr"] == 0.5
    assert [parameter.shape for parameter in group["params"]] == [(3,)]


def test_pytorch_metric_learning_with_sizes() -> None:
    losses, _ = terms(loss="pml.ProxyAnchorLoss")
    assert losses["pml.ProxyAnchorLoss"].isfinite()
    mined, _ = terms(loss="contrastive", miner="pml.MultiSimilarityMiner")
    assert mined["contrastive"].isfinite()


def test_errors() -> None:
    with pytest.raises(oodml.OodmlError, match="Did you mean 'margin'"):
        terms(loss="margn")
    with pytest.raises(oodml.OodmlError, match="Did you mean 'margin'"):
        terms(loss="triplet", loss_options={"margn": 1.0})
