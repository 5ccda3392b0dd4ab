"""Every loss of the catalog meets the requirements of `oodml check`."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import oodml
from oodml import catalog
from oodml.checks.check import Factory, requirements_of
from oodml.checks.requirement import Requirement, check_requirement
from oodml.losses._base import LabelLoss, TripletLoss, all_triplets

N_CLASSES, DIM = 4, 6
LOSSES = [
    name
    for name in oodml.names("losses")
    if issubclass(catalog.get_class("losses", name), LabelLoss | TripletLoss)
]


NO_TRIPLETS = {"check_no_triplets", "check_valid_mask"}
NOT_APPLICABLE: dict[str, set[str]] = {
    "angular": {"check_state"},
    "arcface": NO_TRIPLETS,
    "contrastive": {"check_state"},
    "hier": NO_TRIPLETS,
    "hyp": {*NO_TRIPLETS, "check_state"},
    "image_rotation": NO_TRIPLETS,
    "language": {*NO_TRIPLETS, "check_state"},
    "multisimilarity": {*NO_TRIPLETS, "check_state"},
    "pfml": NO_TRIPLETS,
    "proxy_anchor": NO_TRIPLETS,
    "proxy_nca": NO_TRIPLETS,
    "proxy_nca_pp": NO_TRIPLETS,
    "quadruplet": {"check_state"},
    "recall_surrogate": {*NO_TRIPLETS, "check_state"},
    "supcon": {*NO_TRIPLETS, "check_state"},
    "tcm": {*NO_TRIPLETS, "check_state"},
    "triplet": {"check_state"},
}
"""The requirements that do not apply to a loss: it takes no triplets, or has no parameters."""

# Losses with another signature: their options, and their arguments made from embeddings.
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


def test_the_contract_covers_the_catalog() -> None:
    assert {"margin", "triplet", "multisimilarity", "arcface"} <= set(LOSSES)
    assert set(oodml.names("losses")) - set(LOSSES) == set(OTHERS)


@pytest.mark.parametrize("requirement", requirements_of("losses"), ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", LOSSES)
def test_requirements(name: str, requirement: Requirement) -> None:
    result = check_requirement(requirement, Factory("losses", name, {}))
    applies = requirement.__name__ not in NOT_APPLICABLE.get(name, set())
    assert result.mark == ("✓" if applies else "–"), result


@pytest.mark.parametrize("name", LOSSES)
class TestContract:
    def test_half_precision_is_computed_in_full(self, name: str) -> None:
        loss, (x, y) = make(name), sample([0, 0, 1, 1, 2, 2])
        half = x.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(half, y)
        torch.testing.assert_close(value, loss(half.float(), y), rtol=1e-5, atol=1e-6)

    def test_parameter_groups_have_all_settings(self, name: str) -> None:
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
