"""What every method keeps, whatever is added to the catalogue."""

import inspect
from typing import Any

import pytest
import torch

import oodml
from oodml import catalog
from oodml.embedding import embed
from oodml.methods._base import BaseMethod, Space
from oodml.model import Embedder, LinearHead, ModelSettings
from oodml.randomness import isolated
from oodml.training.loop import History, train
from oodml.training.settings import TrainSettings
from oodml.training.sources import FeatureSource, ImageSource
from tests.samples import squares

NEEDED: dict[str, dict[str, Any]] = {"criterion": {"loss": "triplet", "miner": "semihard"}}
SMALLER: dict[str, dict[str, Any]] = {"s2sd": {"dims": [16, 24]}}
TRAINED = [name for name in oodml.names("methods") if catalog.find("methods", name).trains]


def build(name: str, mode: str, width: int, **options: Any) -> tuple[Embedder, BaseMethod]:
    with isolated(0):
        settings = ModelSettings(backbone="small", mode=mode, dim=8, image_size=24)
        model = Embedder(settings, torch.nn.Identity())
        given = NEEDED.get(name, {}) | SMALLER.get(name, {}) | options
        method: BaseMethod = catalog.load("methods", name, space=Space(6, 8, width), **given)
        model.head = method.head() or LinearHead(width, 8)
        assert mode == "head" or model.backbone.features == width
    return model, method


def run(name: str, mode: str, epochs: int = 4, **options: Any) -> tuple[Embedder, History]:
    images = squares()
    settings = TrainSettings(epochs=epochs, batch_size=12, lr=1e-3)
    device = torch.device("cpu")
    if mode == "finetune":
        model, method = build(name, mode, 96, **options)
        pictures = ImageSource(images, images.labels, 24, "gentle")
        return model, train(model, method, pictures, settings, seed=0, device=device)
    views = [embed(images, "pixels", view=v, augmentation="gentle").vectors for v in range(2)]
    model, method = build(name, mode, views[0].shape[1], **options)
    source = FeatureSource(torch.stack([torch.from_numpy(view) for view in views]), images.labels)
    return model, train(model, method, source, settings, seed=0, device=device)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("mode", ["finetune", "head"])
def test_it_trains_the_same_way_twice(name: str, mode: str) -> None:
    if catalog.find("methods", name).modes[mode]:
        return
    model, history = run(name, mode, epochs=2)
    again, same = run(name, mode, epochs=2)
    assert history.rows == same.rows
    trained, repeated = model.head.state_dict(), again.head.state_dict()
    assert all(torch.equal(trained[key], repeated[key]) for key in trained)


@pytest.mark.parametrize("name", oodml.names("methods"))
def test_options_have_defaults_and_words(name: str) -> None:
    method = catalog.find("methods", name)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    needed = {p.name for p in parameters if p.default is p.empty}
    assert needed <= set(NEEDED.get(name, {}))
    assert method.__doc__
    missing = [p.name for p in parameters if p.name not in method.__doc__]
    assert not missing


@pytest.mark.parametrize("name", TRAINED)
def test_a_saved_head_comes_back(name: str, tmp_path: Any) -> None:
    if catalog.find("methods", name).modes["head"]:
        return
    model, _ = build(name, "finetune", 96)
    model.save(tmp_path)
    images = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(oodml.load_model(tmp_path)(images), model.eval()(images))
