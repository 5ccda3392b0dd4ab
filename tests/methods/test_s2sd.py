from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from oodml.methods._base import Batch, Sizes
from oodml.methods.s2sd import Method
from tests.losses._reference import read
from tests.losses.test_s2sd import targets


@pytest.mark.parametrize("step", [0, 1])
def test_the_terms_sum_to_the_originals_objective(reference: Path, step: int) -> None:
    arrays = read(reference / "criteria_32x16.npz")
    weights = read(reference / "s2sd_weights.npz")
    method = Method(
        Sizes(8, 16, 512),
        feature_start=1,
        dims=(24, 32),
        loss="multisimilarity",
        loss_options={"published": True},
        miner=None,
    )
    method.targets.load_state_dict(
        {key.removeprefix("target_nets."): value for key, value in weights.items()}
    )
    noise = np.random.default_rng(63).normal(0, 1, (32, 512, 2, 2)).astype(np.float32)
    features = torch.from_numpy(noise).relu().mean((2, 3))
    heads = {"embedding": arrays["x"]}
    batch = Batch(features, heads, arrays["y"], step, torch.Generator())
    total = torch.stack(list(method.terms(batch).values())).sum()
    torch.testing.assert_close(total.double(), arrays[f"loss_s2sd_iter{step}"], rtol=1e-5, atol=0)
    total.backward()
    norms = [parameter.grad.abs().sum() for parameter in method.targets.parameters()]
    torch.testing.assert_close(
        torch.stack(norms).double(), arrays["s2sd_target_grad_l1"], rtol=1e-4, atol=1e-6
    )
    output = functional.normalize(method.targets[0](features), dim=1)
    torch.testing.assert_close(output.detach(), targets(features, weights)[0])


def test_each_target_has_its_own_loss() -> None:
    method = Method(Sizes(8, 16, 32), dims=(24, 40))
    assert [len(loss.loss.beta) for loss in method.losses] == [8, 8, 8]
    assert [loss.miner.probability for loss in method.losses] == [0.4] * 3
    rates = sorted((group["lr"], len(group["params"])) for group in method.parameter_groups(1.0))
    assert rates == [(1e-5, 1), (1e-5, 1), (1e-5, 1), (1.0, 8)]
