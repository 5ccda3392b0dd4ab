from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import oodml
from tests.losses._reference import Arrays, check, read


def targets(features: Tensor, weights: Arrays) -> list[Tensor]:
    outputs = []
    for i in (0, 1):
        first, second = (
            (weights[f"target_nets.{i}.{layer}.weight"], weights[f"target_nets.{i}.{layer}.bias"])
            for layer in (0, 2)
        )
        hidden = functional.linear(features, *first).relu()
        outputs.append(functional.normalize(functional.linear(hidden, *second), dim=1))
    return outputs


@pytest.mark.parametrize("distill_features", [False, True])
def test_the_originals_whole_objective(reference: Path, distill_features: bool) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    noise = np.random.default_rng(63).normal(0, 1, (32, 512, 2, 2)).astype(np.float32)
    features = torch.from_numpy(noise).relu().mean((2, 3))
    heads = targets(features, read(reference / "s2sd_weights.npz"))
    inner = oodml.load("losses", "multisimilarity", published=True)
    term = oodml.load("losses", "s2sd")

    def objective(x: Tensor) -> Tensor:
        x, y = functional.normalize(x, dim=1), arrays["y"]
        own = torch.stack([inner(head, y) for head in heads]).mean()
        total = (inner(x, y) + own) / 2 + 50 * torch.stack([term(x, h) for h in heads]).mean()
        return total + 50 * term(x, features) if distill_features else total

    check(arrays, f"s2sd_iter{int(distill_features)}", objective)


def test_against_the_definition_and_no_gradient_to_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, d, generator=generator) for d in (3, 7))
    teacher.requires_grad_()
    student.requires_grad_()
    p, q = (
        (functional.normalize(x, dim=1) @ functional.normalize(x, dim=1).T / 0.5).softmax(1)
        for x in (teacher, student)
    )
    loss = oodml.load("losses", "s2sd", temperature=0.5)(student, teacher)
    torch.testing.assert_close(loss, (p * (p / q).log()).sum() / 5)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
