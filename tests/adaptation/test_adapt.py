from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import oodml
from oodml.adaptation import AdaptSettings, Heads
from oodml.adaptation.heads import train_heads
from oodml.adaptation.support import SupportBatches, support_of
from oodml.errors import OodmlError
from oodml.losses.margin import Loss as MarginLoss
from oodml.losses.multisimilarity import Loss as MultiSimilarityLoss
from oodml.losses.triplet import Loss as TripletLoss
from oodml.methods.diva import Head as DivaHead
from oodml.miners.distance import Miner
from oodml.model import LinearHead

from .toy import CLASSES, DIM, FEATURES, IMAGES, episodes, toy

FAST = AdaptSettings(iterations=60, lr=5e-3, batch_size=12, metrics=("recall@1", "map@r"))


@pytest.mark.parametrize("objective", ["margin", "multisimilarity", "triplet"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_all_episodes_at_once_equal_a_plain_loop(objective: str, optimizer: str) -> None:
    """One `nn.Linear`, one loss module, and one plain optimizer per episode."""
    features, _, head = toy()
    views = torch.stack([features, features + 0.1], dim=1)
    support = [support_of(one) for one in episodes(3, 4)]
    settings = FAST.model_copy(update={"objective": objective, "optimizer": optimizer})

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(number) for number in range(3)]

    outcome = train_heads(head, views, support, generators(), settings, 40)
    for episode in range(3):
        one = SupportBatches([support[episode]], [generators()[episode]], 2, 12, 2)
        linear = head.module(torch.nn.Identity())
        loss: Any = {
            "margin": MarginLoss(CLASSES),
            "multisimilarity": MultiSimilarityLoss(),
            "triplet": TripletLoss(),
        }[objective]
        groups = [{"params": linear.parameters(), "lr": 5e-3}, *loss.parameter_groups(5e-3)]
        step = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        plain = step(groups, **({} if optimizer == "adam" else {"momentum": 0.9}))
        for batch in one.draw(40):
            embeddings = linear.embed(views.flatten(0, 1)[batch.rows[0]])
            triplets, valid = Miner().choose(
                embeddings.detach(), batch.classes[0], batch.uniform[0]
            )
            extra = () if objective == "multisimilarity" else (triplets, valid)
            plain.zero_grad()
            loss(embeddings, batch.classes[0], *extra).backward()
            plain.step()
        torch.testing.assert_close(outcome.weight[episode], linear.linear.weight, atol=2e-5, rtol=0)
        assert outcome.bias is not None
        torch.testing.assert_close(outcome.bias[episode], linear.linear.bias, atol=2e-5, rtol=0)


def test_an_episode_alone_gives_the_same_result() -> None:
    features, classes, head = toy()
    together = oodml.adapt(features, classes, episodes(4, 3), head, FAST, seed=7)
    alone = oodml.adapt(features, classes, episodes(4, 3)[2:3], head, FAST, seed=7, numbers=[2])
    torch.testing.assert_close(together.heads.weight[2], alone.heads.weight[0], atol=1e-6, rtol=0)
    assert together.after[2] == pytest.approx(alone.after[0], abs=1e-6)


def test_equal_seeds_give_equal_bits() -> None:
    features, classes, head = toy()
    first, second, other = (
        oodml.adapt(features, classes, episodes(2, 2), head, FAST, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.heads.weight, second.heads.weight)
    assert first.after == second.after
    assert not torch.equal(first.heads.weight, other.heads.weight)


@pytest.mark.parametrize("objective", ["margin", "multisimilarity", "triplet"])
def test_adapting_helps_on_the_queries(objective: str) -> None:
    features, classes, head = toy()
    settings = FAST.model_copy(update={"objective": objective, "iterations": 150})
    result = oodml.adapt(features, classes, episodes(4, 4), head, settings)
    gains = [
        b["recall@1"] - a["recall@1"] for a, b in zip(result.before, result.after, strict=True)
    ]
    assert np.mean(gains) > 0.03


def test_inputs_are_not_modified_and_zero_steps_change_nothing() -> None:
    features, classes, head = toy()
    before, weight = features.clone(), head.weight.clone()
    still = FAST.model_copy(update={"iterations": 0})
    result = oodml.adapt(features, classes, episodes(2, 2), head, still)
    assert result.before == result.after
    oodml.adapt(features, classes, episodes(2, 2), head, FAST)
    assert torch.equal(features, before)
    assert torch.equal(head.weight, weight)


def test_queries_exclude_the_support() -> None:
    features, classes, head = toy()
    one = episodes(1, 3)
    support = [row for rows in one[0].values() for row in rows]
    queries = np.setdiff1d(np.arange(len(features)), support)
    with torch.no_grad():
        vectors = head.embed(features[None])[0].numpy()
    expected = oodml.retrieval_metrics(vectors[queries], classes[queries], ks=(1,))
    outcome = oodml.adapt(features, classes, one, head, FAST).before[0]
    assert outcome == pytest.approx({name: expected[name] for name in FAST.metrics})


def test_class_wise_support_leaves_the_other_classes_as_queries() -> None:
    features, classes, head = toy()
    one = {name: np.flatnonzero(classes == name).tolist() for name in ("c0", "c3", "c5")}
    two = {name: np.flatnonzero(classes == name).tolist() for name in ("c1", "c2")}
    result = oodml.adapt(features, classes, [one, two], head, FAST)
    assert len(result.after) == 2
    rest = ~np.isin(classes, list(one))
    with torch.no_grad():
        vectors = result.heads[0].embed(features[None])[0].numpy()
    expected = oodml.retrieval_metrics(vectors[rest], classes[rest], ks=(1,))["recall@1"]
    assert result.after[0]["recall@1"] == pytest.approx(expected)


def test_beta_is_learned_per_class() -> None:
    """With a learning rate of 0, β stays fixed and the heads differ."""
    features, classes, head = toy()
    fixed = FAST.model_copy(update={"beta_lr": 0.0})
    learned = FAST.model_copy(update={"beta_lr": 5e-2})
    a = oodml.adapt(features, classes, episodes(1, 4), head, fixed)
    b = oodml.adapt(features, classes, episodes(1, 4), head, learned)
    assert not torch.allclose(a.heads.weight, b.heads.weight, atol=1e-4)


def test_training_uses_the_support_views() -> None:
    features, classes, head = toy()
    one = episodes(1, 2)
    rows = [row for own in one[0].values() for row in own]
    views = {row: features[row].expand(3, -1) for row in rows}
    plain = oodml.adapt(features, classes, one, head, FAST.model_copy(update={"batch_size": 4}))
    viewed = oodml.adapt(features, classes, one, head, FAST, support_views=views)
    assert viewed.before == plain.before
    shifted = {row: view + 1.0 for row, view in views.items()}
    moved = oodml.adapt(features, classes, one, head, FAST, support_views=shifted)
    assert not torch.equal(moved.heads.weight, viewed.heads.weight)


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"c0": [0, 1], "c1": [IMAGES, 0]}, "episode 0: class 'c1'"),
        ({"c0": [0, 999], "c1": [IMAGES]}, "episode 0: class 'c0'"),
        ({"c0": [], "c1": [IMAGES]}, "episode 0: class 'c0'"),
    ],
)
def test_bad_support_is_refused(change: dict[str, list[int]], location: str) -> None:
    features, classes, head = toy()
    with pytest.raises(OodmlError) as error:
        oodml.adapt(features, classes, [change], head, FAST)
    assert error.value.location == location


def test_unknown_metrics_are_refused() -> None:
    features, classes, head = toy()
    wrong = FAST.model_copy(update={"metrics": ("map@R",)})
    with pytest.raises(OodmlError) as error:
        oodml.adapt(features, classes, episodes(1, 2), head, wrong)
    assert error.value.given == "map@R"
    assert "map@r" in error.value.allowed


def test_steps_by_shots() -> None:
    paper = AdaptSettings(iterations="paper")
    assert [paper.steps(shots) for shots in (1, 2, 5)] == [1000, 1000, 1500]
    assert AdaptSettings.model_validate(paper.model_dump()) == paper
    assert AdaptSettings(iterations=7).steps(5) == 7
    assert AdaptSettings(objective="linear").steps(5) == 0


def test_parts_are_normalized_separately() -> None:
    features, _, head = toy()
    parted = replace(head, part_weights=(0.5, 1.5))
    outcome = parted.embed(features[None])[0]
    outputs = head.linear(features[None])[0]
    halves = [outputs[:, : DIM // 2], outputs[:, DIM // 2 :]]
    halves = [half / half.norm(dim=1, keepdim=True) for half in halves]
    expected = torch.cat([0.5 * halves[0], 1.5 * halves[1]], dim=1)
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(outcome, expected)


def test_a_head_can_be_converted_to_a_module_and_back() -> None:
    module = LinearHead(FEATURES, DIM)
    head = oodml.adaptation.heads_of(module, FEATURES)
    features = toy()[0]
    again = Heads(head.weight, head.bias).module(module)
    assert again is not module
    assert torch.equal(again.embed(features), module.embed(features))
    torch.testing.assert_close(head.embed(features[None])[0], module.embed(features))
    with pytest.raises(OodmlError, match="ReLU"):
        oodml.adaptation.heads_of(torch.nn.ReLU(), FEATURES)


def test_a_head_of_parts_keeps_its_kind() -> None:
    parted = DivaHead(FEATURES, DIM * 2, (0.5, 1.5, 1.5, 1.5))
    features = toy()[0]
    head = oodml.adaptation.heads_of(parted, FEATURES)
    torch.testing.assert_close(head.embed(features[None])[0], parted.embed(features))
    changed = replace(head, weight=head.weight + 0.1)
    module = changed.module(parted)
    assert isinstance(module, DivaHead)
    torch.testing.assert_close(module.embed(features), changed.embed(features[None])[0])
