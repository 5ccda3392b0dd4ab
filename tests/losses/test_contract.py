"""What every loss of labels or triplets keeps, whatever is added to the catalogue."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import oodml
from oodml import catalog
from oodml.losses._base import LabelLoss, TripletLoss, all_triplets

N_CLASSES, DIM = 4, 6
LOSSES = [
    name
    for name in oodml.names("losses")
    if issubclass(catalog.find("losses", name), LabelLoss | TripletLoss)
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
    accepted = inspect.signature(catalog.find("losses", name)).parameters
    sizes = {"n_classes": N_CLASSES, "dim": DIM, "generator": torch.Generator().manual_seed(1)}
    return oodml.load("losses", name, **{k: v for k, v in sizes.items() if k in accepted})


def sample(labels: list[int], seed: int = 0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    x = torch.randn(len(labels), DIM, generator=torch.Generator().manual_seed(seed))
    return scale * torch.nn.functional.normalize(x, dim=1), torch.tensor(labels)


def check_finite(loss: Any, x: Tensor, *rest: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    value = loss(x, *rest)
    value.backward()
    assert value.isfinite()
    gradients = [x.grad, *(parameter.grad for parameter in loss.parameters())]
    for gradient in gradients:
        assert gradient is None or gradient.isfinite().all()
    return value.detach()


def test_the_contract_covers_the_catalogue() -> None:
    assert {"margin", "triplet", "multisimilarity", "arcface"} <= set(LOSSES)
    assert set(oodml.names("losses")) - set(LOSSES) == set(OTHERS)


@pytest.mark.parametrize("name", LOSSES)
class TestContract:
    def test_it_falls_along_its_gradient(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2, 3, 3])
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x, y), x)
        assert gradient.abs().sum() > 0
        assert loss(x - 1e-3 * gradient / gradient.norm(), y) < loss(x, y)

    def test_the_order_of_rows_does_not_matter(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2, 2, 3])
        order = torch.tensor([5, 2, 0, 7, 1, 4, 6, 3])
        torch.testing.assert_close(loss(x, y), loss(x[order], y[order]), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        "labels",
        [[1, 1, 1, 1], [0, 1, 2, 3], [0, 0, 0, 3], [2], [0, 0]],
        ids=["one class", "singletons", "a singleton", "one row", "one pair"],
    )
    def test_odd_batches(self, name: str, labels: list[int]) -> None:
        check_finite(make(name), *sample(labels))

    @pytest.mark.parametrize("scale", [0.0, 20.0], ids=["zero", "long"])
    def test_any_length(self, name: str, scale: float) -> None:
        check_finite(make(name), *sample([0, 0, 1, 1, 2, 2], scale=scale))

    def test_collapsed_and_antipodal_embeddings(self, name: str) -> None:
        x, y = sample([0, 0, 1, 1, 2, 2])
        check_finite(make(name), x[:1].expand(6, -1).clone(), y)
        signs = torch.tensor([1.0, -1, 1, -1, 1, -1])[:, None]
        check_finite(make(name), x[:1] * signs, y)

    def test_half_precision_is_computed_in_full(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2])
        half = x.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            value = check_finite(loss, half, y)
        torch.testing.assert_close(value, loss(half.float(), y).detach(), rtol=1e-5, atol=1e-6)

    def test_inputs_stay(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2])
        before = x.clone(), y.clone()
        loss(x, y)
        assert torch.equal(x, before[0])
        assert torch.equal(y, before[1])

    def test_parameter_groups_hold_every_parameter(self, name: str) -> None:
        loss = make(name)
        groups = loss.parameter_groups(1e-3)
        assert all(set(group) == {"params", "lr", "weight_decay"} for group in groups)
        held = {id(parameter) for group in groups for parameter in group["params"]}
        assert held == {id(p) for p in loss.parameters() if p.requires_grad}


TRIPLET_LOSSES = [n for n in LOSSES if issubclass(catalog.find("losses", n), TripletLoss)]


@pytest.mark.parametrize("name", TRIPLET_LOSSES)
class TestTripletContract:
    def test_all_triplets_are_the_default(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2, 2])
        torch.testing.assert_close(
            loss(x, y), loss(x, y, all_triplets(y).flip(0)), rtol=1e-5, atol=1e-6
        )

    def test_only_valid_triplets_count(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2, 2])
        triplets = all_triplets(y)[:10]
        valid = torch.arange(10) % 3 > 0
        mask_given = loss(x, y, triplets, valid)
        torch.testing.assert_close(mask_given, loss(x, y, triplets[valid]), rtol=1e-5, atol=1e-6)

    def test_no_triplets(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1])
        check_finite(loss, x, y, torch.zeros(0, 3, dtype=torch.int64))


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
