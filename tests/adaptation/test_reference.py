"""Adaptation of a linear head on cached features equals the original code, step by step."""

import random
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from oodml.adaptation import AdaptSettings, Heads
from oodml.adaptation.heads import take_steps
from oodml.adaptation.support import SupportBatch
from oodml.losses.multisimilarity import multisimilarity_loss
from oodml.miners.distance import negative_probabilities

STEPS = 15
Mine = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def adapted(reference: Path, objective: str) -> tuple[float, float, float]:
    """The largest errors of weights and biases after 15 steps, and how far the weights moved."""
    stored = np.load(reference / "sampler_finetune.npz")
    heads = Heads(torch.from_numpy(stored["ft_w0"])[None], torch.from_numpy(stored["ft_b0"])[None])
    batches = torch.from_numpy(stored["ft_batches"])
    labels = torch.from_numpy(stored["ft_labels"])
    classes = labels[batches]
    blocks = torch.arange(10).repeat_interleave(2)
    assert torch.equal(classes[0], blocks)
    assert torch.equal(classes[1], blocks)
    drawn = [
        SupportBatch(batches[step % 2][None], classes[step % 2][None], torch.zeros(1, 2, 20))
        for step in range(STEPS)
    ]
    settings = AdaptSettings(objective=objective, lr=1e-3, beta_lr=0.0)
    take_steps(heads, torch.from_numpy(stored["ft_features"]), blocks, drawn, 10, settings)
    weight, bias = stored[f"ft_w_{objective}"], stored[f"ft_b_{objective}"]
    return (
        float(np.abs(heads.weight[0].numpy() - weight).max()),
        float(np.abs(heads.bias[0].numpy() - bias).max()),
        float(np.abs(weight - stored["ft_w0"]).max()),
    )


def distance_draws(generator: np.random.RandomState) -> Mine:
    """The original code's miner for margin: for each anchor a negative, then a positive."""

    def mine(embeddings: Tensor, labels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        negative = labels[:, None] != labels
        weights = negative_probabilities(embeddings[0].detach(), negative).double().numpy()
        triplets = []
        for anchor, row in enumerate(weights):
            far = generator.choice(len(row), p=row / row.sum())
            same = np.flatnonzero(labels.numpy() == labels[anchor].item())
            triplets.append([anchor, generator.choice(same[same != anchor]), far])
        return torch.tensor(triplets)[None], torch.ones(1, len(labels), dtype=torch.bool)

    return mine


def random_draws(generator: random.Random) -> Mine:
    """The original code's miner for triplet: a sample of all triplets in order of class pairs."""

    def mine(embeddings: Tensor, labels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        members = [torch.nonzero(labels == name).flatten().tolist() for name in labels.unique()]
        everything = [
            [anchor, positive, negative]
            for own, other in permutations(members, 2)
            for anchor, positive in permutations(own, 2)
            for negative in other
        ]
        triplets = generator.sample(everything, len(labels))
        return torch.tensor(triplets)[None], torch.ones(1, len(labels), dtype=torch.bool)

    return mine


def test_multisimilarity_reproduces_the_originals_weights(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = partial(multisimilarity_loss, published=True)
    monkeypatch.setattr("oodml.few_shot_adapters.multisimilarity.multisimilarity_loss", published)
    weight_error, bias_error, moved = adapted(reference, "multisimilarity")
    assert moved > 1e-2
    assert weight_error < 2e-7
    assert bias_error < 2e-7


@pytest.mark.parametrize(
    ("objective", "mine"),
    [
        ("margin", distance_draws(np.random.RandomState(0))),
        ("triplet", random_draws(random.Random(0))),
    ],
)
def test_losses_of_triplets_reproduce_the_originals_weights(
    objective: str, mine: Mine, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodml.few_shot_adapters._base.mine_triplets", mine)
    weight_error, bias_error, moved = adapted(reference, objective)
    assert moved > 1e-2
    assert weight_error < 1e-6
    assert bias_error < 1e-6
