"""What every loss of labels or triplets keeps, whatever is added to the catalogue."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import oodml
from oodml import catalog
from oodml.contract.check import Maker, promises
from oodml.contract.promise import Promise, kept
from oodml.losses._base import LabelLoss, TripletLoss, all_triplets

N_CLASSES, DIM = 4, 6
LOSSES = [
    name
    for name in oodml.names("losses")
    if issubclass(catalog.get_class("losses", name), LabelLoss | TripletLoss)
]


# Losses of another signature: their options, and their arguments made from rows.
OTHERS: dict[str, tuple[dict[str, Any], Callable[[Tensor], tuple[Any, ...]]]] = {
    "adversarial_separation": (
        {"dims": {"a": DIM, "b": DIM}, "pairs": [("a", "b")]},
        lambda x: ({"a": x, "b": x.flip(0)},),
    ),
    "fast_moco": ({}, lambda x: (x, x.flip(0), x.detach())),
    "moco": ({}, lambda x: (x, x.flip(0), x.detach())),
    "s2sd": ({}, lambda x: (x, x.flip(0))),
}


def make(name: str) -> Any:
    accepted = inspect.signature(catalog.get_class("losses", name)).parameters
    sizes = {"n_classes": N_CLASSES, "dim": DIM, "generator": torch.Generator().manual_seed(1)}
    return oodml.load("losses", name, **{k: v for k, v in sizes.items() if k in accepted})


def sample(labels: list[int], seed: int = 0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    x = torch.randn(len(labels), DIM, generator=torch.Generator().manual_seed(seed))
    return scale * torch.nn.functional.normalize(x, dim=1), torch.tensor(labels)


def test_the_contract_covers_the_catalogue() -> None:
    assert {"margin", "triplet", "multisimilarity", "arcface"} <= set(LOSSES)
    assert set(oodml.names("losses")) - set(LOSSES) == set(OTHERS)


@pytest.mark.parametrize("promise", promises("losses"), ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", LOSSES)
def test_promises(name: str, promise: Promise) -> None:
    """What `oodml check` looks at in a loss of the user's."""
    found = kept(promise, Maker("losses", name, {}))
    assert found.mark in "✓–", found


@pytest.mark.parametrize("name", LOSSES)
class TestContract:
    def test_half_precision_is_computed_in_full(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2])
        half = x.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(half, y)
        torch.testing.assert_close(value, loss(half.float(), y), rtol=1e-5, atol=1e-6)

    def test_parameter_groups_say_how_to_train(self, name: str) -> None:
        groups = make(name).parameter_groups(1e-3)
        assert all(set(group) == {"params", "lr", "weight_decay"} for group in groups)


TRIPLET_LOSSES = [n for n in LOSSES if issubclass(catalog.get_class("losses", n), TripletLoss)]


@pytest.mark.parametrize("name", TRIPLET_LOSSES)
class TestTripletContract:
    def test_all_triplets_are_the_default(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2, 2])
        torch.testing.assert_close(
            loss(x, y), loss(x, y, all_triplets(y).flip(0)), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", list(OTHERS))
class TestOtherSignatures:
    @pytest.mark.parametrize("scale", [0.0, 1.0, 20.0], ids=["zero", "unit", "long"])
    @pytest.mark.parametrize("collapsed", [False, True])
    def test_finite(self, name: str, scale: float, collapsed: bool) -> None:
        options, arguments = OTHERS[name]
        loss, (x, _) = oodml.load("losses", name, **options), sample([0, 0, 1, 1], scale=scale)
        x = (x[:1].expand(4, -1).clone() if collapsed else x).requires_grad_()
        value = loss(*arguments(x))
        value.backward()
        assert value.isfinite()
        assert x.grad is not None
        assert x.grad.isfinite().all()

    def test_half_precision_is_computed_in_full(self, name: str) -> None:
        options, arguments = OTHERS[name]
        loss, (x, _) = oodml.load("losses", name, **options), sample([0, 0, 1, 1])
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(*arguments(x.bfloat16()))
        torch.testing.assert_close(value, loss(*arguments(x.bfloat16().float())))
