"""Every loss of the catalog can be trained by a method, or is refused with the method to use."""

import inspect
from typing import Any

import pytest
import torch

import oodml
from oodml import catalog
from oodml.checks.check import Factory
from oodml.checks.methods import build, train_on_squares, training_modes
from oodml.losses._base import accepts_triplets
from oodml.methods._base import Sizes

SIZES = Sizes(n_classes=6, dim=8, feature_dim=96)


def criterion(**options: Any) -> Any:
    return catalog.load("methods", "criterion", sizes=SIZES, **options)


def is_criterion(name: str) -> bool:
    return "labels" in inspect.signature(catalog.get_class("losses", name).forward).parameters


@pytest.mark.parametrize("name", [name for name in oodml.names("losses") if is_criterion(name)])
def test_criterion_trains_every_loss_of_labels(name: str) -> None:
    factory = Factory("methods", "criterion", {"loss": name})
    for mode in training_modes(factory):
        untrained = build(factory, mode)[0].trained.state_dict()
        model, rows = train_on_squares(factory, mode, epochs=1)
        assert all(torch.tensor(list(row.values())).isfinite().all() for row in rows)
        trained = model.trained.state_dict()
        assert any(not torch.equal(untrained[key], trained[key]) for key in trained)


def test_rotation_is_learned_from_images_only() -> None:
    factory = Factory("methods", "criterion", {"loss": "image_rotation"})
    assert training_modes(factory) == ["finetune"]
    _, rows = train_on_squares(factory, "finetune", epochs=12)
    losses = [row["image_rotation"] for row in rows]
    assert min(losses[-3:]) < losses[0]
    with pytest.raises(oodml.OodmlError) as error:
        train_on_squares(factory, "head")
    assert error.value.allowed == ("finetune",)


@pytest.mark.parametrize("loss", ["moco", "fast_moco"])
@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_momentum_contrast_is_a_method(loss: str, mode: str) -> None:
    factory = Factory("methods", "moco", {"loss": loss})
    _, rows = train_on_squares(factory, mode, epochs=2)
    assert all(row[loss] > 0 for row in rows)


@pytest.mark.parametrize("name", [name for name in oodml.names("losses") if not is_criterion(name)])
def test_other_losses_name_their_method(name: str) -> None:
    options = {"dims": {"a": 4}, "pairs": []} if name == "adversarial_separation" else {}
    with pytest.raises(oodml.OodmlError) as error:
        criterion(loss=name, loss_options=options)
    assert (error.value.location, error.value.given) == ("loss", name)
    assert any(method in str(error.value) for method in oodml.names("methods"))


@pytest.mark.parametrize("name", [name for name in oodml.names("losses") if is_criterion(name)])
def test_a_miner_without_effect_is_refused(name: str) -> None:
    if accepts_triplets(catalog.get_class("losses", name)):
        assert criterion(loss=name, miner="random").mined[0].miner is not None
        return
    with pytest.raises(oodml.OodmlError) as error:
        criterion(loss=name, miner="random")
    assert error.value.location == "miner"
