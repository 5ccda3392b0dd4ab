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


def test_weighted_terms_are_logged_by_name() -> None:
    losses, batch = terms(
        loss="multisimilarity",
        losses=[{"loss": "tcm", "weight": 2.0}, {"loss": "tcm"}, {"loss": "pml.VICRegLoss"}],
    )
    assert list(losses) == ["multisimilarity", "tcm", "tcm 2", "pml.VICRegLoss"]
    tcm = oodml.load("losses", "tcm")(batch.embeddings, batch.labels)
    torch.testing.assert_close(losses["tcm"], 2 * tcm)
    torch.testing.assert_close(losses["tcm 2"], tcm)


def test_matryoshka_averages_over_prefixes() -> None:
    unit = torch.nn.functional.normalize
    for scale in (unit, lambda x: x):
        method = catalog.load("methods", "criterion", sizes=SIZES, loss="proxy_nca", dims=[2, 4])
        x, y = scale(torch.randn(6, 4, generator=torch.Generator().manual_seed(0))), SIZES
        y = torch.arange(6) % 3
        batch = Batch(torch.zeros(6, 5), {"embedding": x}, y, 0, torch.Generator())
        first, second = (part.loss for part in method.mined[0].losses)
        assert first.vectors.shape == (3, 2)
        expected = (first(x[:, :2], y) + second(x, y)) / 2
        torch.testing.assert_close(method.terms(batch)["proxy_nca"], expected)
    groups = method.parameter_groups(1e-3)
    assert [group["params"][0].shape for group in groups] == [(3, 2), (3, 4)]


@pytest.mark.parametrize(("loss", "miner"), [("supcon", None), ("triplet", "npair")])
def test_memory_adds_the_rows_of_earlier_batches(loss: str, miner: str | None) -> None:
    method = catalog.load("methods", "criterion", sizes=SIZES, loss=loss, miner=miner, memory=9)
    generator = torch.Generator().manual_seed(0)
    own, y = oodml.load("losses", loss), torch.arange(6) % 3
    seen, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    for _ in range(4):
        x = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
        batch = Batch(torch.zeros(6, 5), {"embedding": x}, y, 0, generator)
        rows, known = torch.cat([x, seen]), torch.cat([y, labels])
        triplets = () if miner is None else (all_triplets(known),)
        if miner:
            triplets = (triplets[0][triplets[0][:, 0] < 6],)
        value = method.terms(batch)[loss]
        if miner is None:
            torch.testing.assert_close(value, own(rows, known, *triplets))
        seen, labels = rows[:9], known[:9]
        assert torch.equal(method.mined[0].memory[0], seen)
    restored = catalog.load("methods", "criterion", sizes=SIZES, loss=loss, miner=miner, memory=9)
    restored.load_state_dict(method.state_dict())
    assert torch.equal(restored.mined[0].memory[0], seen)


def test_remembered_rows_are_no_anchors() -> None:
    method = catalog.load(
        "methods", "criterion", sizes=SIZES, loss="triplet", miner="random", memory=6
    )
    generator = torch.Generator().manual_seed(0)
    anchors = []
    method.mined[0].loss.loss.register_forward_hook(lambda *a: anchors.append(a[1][2:]))
    for _ in range(3):
        x = torch.randn(6, 4, generator=generator)
        labels = torch.arange(6) % 3
        method.terms(Batch(torch.zeros(6, 5), {"embedding": x}, labels, 0, generator))
    triplets, valid = anchors[-1]
    assert (triplets[valid][:, 0] < 6).all()
    assert (triplets[valid] >= 6).any()


def test_invalid_terms_are_refused() -> None:
    for options, key in (
        ({}, "loss"),
        ({"losses": [{"loss": "tcm", "wieght": 1}]}, "wieght"),
        ({"losses": [{"weight": 1}]}, "loss"),
        ({"loss": "tcm", "dims": [8]}, "8"),
        ({"loss": "tcm", "space": "sphere"}, "sphere"),
    ):
        with pytest.raises(oodml.OodmlError, match=key):
            terms(**options)


def test_the_poincare_head_maps_clipped_outputs_into_the_unit_ball() -> None:
    method = catalog.load("methods", "criterion", sizes=SIZES, loss="hyp", space="poincare")
    head = method.head()
    features = 50 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    output = head(features)["embedding"]
    assert output.norm(dim=1).max() <= 2.3 + 1e-5
    points = head.embed(features)
    from oodml.losses._base import to_ball

    torch.testing.assert_close(points, 0.1**0.5 * to_ball(output, 0.1, 2.3))
    assert points.norm(dim=1).max() < 1
