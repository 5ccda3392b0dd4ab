"""A study of the user's own loss, miner, method, network and data, by their import paths."""

import sys
from pathlib import Path

import pandas as pd
import pytest

import oodml
from oodml.errors import OodmlError
from oodml.results.plan import RunPlan, read_plan
from oodml.study.folder.status import Status
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study

FILES = {
    "__init__.py": "",
    "losses.py": """
import torch

class Pull(torch.nn.Module):
    def __init__(self, n_classes: int, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.scale = torch.nn.Parameter(torch.ones(n_classes))

    def forward(self, embeddings, labels, triplets):
        anchor, positive, negative = embeddings[triplets].unbind(1)
        gap = (anchor - positive).square().sum(1) - (anchor - negative).square().sum(1)
        return self.strength * torch.relu(gap + 0.2).mean() * self.scale.mean()
""",
    "miners.py": """
from oodml.losses._base import all_triplets

class Every:
    def __call__(self, embeddings, labels, generator):
        return all_triplets(labels)
""",
    "methods.py": """
import torch
from oodml.methods._base import BaseMethod

class Head(torch.nn.Module):
    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.options = {"features": features, "dim": dim}
        self.layer = torch.nn.Linear(features, dim)

    def forward(self, features):
        return {"embedding": self.embed(features)}

    def embed(self, features):
        return torch.nn.functional.normalize(torch.tanh(self.layer(features)), dim=1)

class Method(BaseMethod):
    def __init__(self, sizes, weight: float = 1.0) -> None:
        super().__init__(sizes)
        self.weight = weight

    def head(self):
        return Head(self.sizes.feature_dim, self.sizes.dim)

    def terms(self, batch):
        return {"spread": self.weight * (batch.embeddings @ batch.embeddings.T).square().mean()}
""",
    "nets.py": """
from torch import nn
from oodml.backbones import Backbone

def net(weights=None, width: int = 8):
    return Backbone(nn.Sequential(nn.Conv2d(3, width, 5, 4), nn.ReLU()), width, 16)
""",
    "data.py": """
import numpy as np
from oodml.images.image_set import ImageSet

def photos(classes: int = 8):
    names = np.repeat([f"c{c}" for c in range(classes)], 4)
    pixels = np.random.default_rng(0).integers(0, 255, (len(names), 16, 16, 3), dtype=np.uint8)
    ids = np.array([f"{name}/{i}" for i, name in enumerate(names)])
    return ImageSet("photos", ids, names, pixels=pixels)
""",
}
STUDY = """
data = {name = "PACKAGE.data:photos", classes = 9}
splits = {backbone = "PACKAGE.nets:net", n_splits = 2}
model = {backbone = "PACKAGE.nets:net", dim = 4, views = 1}
train = {epochs = 1, batch_size = 8}
[methods.mined]
method = "criterion"
loss = "PACKAGE.losses:Pull"
miner = "PACKAGE.miners:Every"
[methods.own]
method = "PACKAGE.methods:Method"
weight = [1.0, 2.0]
[methods.margin]
model = {backbone = "pixels"}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file with the package that it names beside it; each test has its own package."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = f"lab_{tmp_path.name}"
    (tmp_path / package).mkdir()
    for name, text in FILES.items():
        (tmp_path / package / name).write_text(text)
    (tmp_path / "study.toml").write_text(STUDY.replace("PACKAGE", package))
    return tmp_path / "study.toml"


def run(file: Path, workers: int = 1) -> tuple[Status, tuple[RunPlan, ...]]:
    status = run_study(read_study(file), file.parent / "out", workers=workers, device="cpu")
    return status, read_plan(file.parent / "out" / "plan.json").runs


@pytest.mark.parametrize("workers", [1, 2])
def test_it_runs_in_every_process(file: Path, workers: int) -> None:
    status, planned = run(file, workers)
    assert not status.failed
    assert len(status.done) == status.total == len(planned) == 2 * 4
    table = pd.read_parquet(file.parent / "out" / "results.parquet")
    assert set(table["method"]) == {"mined", "own weight=1.0", "own weight=2.0", "margin"}
    assert set(table["data"]) == {"photos"}


def test_an_edit_makes_new_runs_of_what_it_may_concern(file: Path) -> None:
    _, before = run(file)
    again, same = run(file)
    assert before == same
    assert not again.missing
    losses = next(file.parent.glob("lab_*/losses.py"))
    losses.write_text(losses.read_text().replace("0.2", "0.3"))
    _, after = run(file)
    assert not {one.id for one in before} & {one.id for one in after}
    assert len(list((file.parent / "out" / "runs").iterdir())) == len(before) + len(after)


def test_the_code_is_written_down(file: Path) -> None:
    _, planned = run(file)
    package = next(file.parent.glob("lab_*")).name
    mined = next(one for one in planned if one.label == "mined")
    plain = next(one for one in planned if one.label == "margin")
    paths = ["data:photos", "losses:Pull", "miners:Every", "nets:net"]
    assert list(mined.code) == [f"{package}.{path}" for path in paths]
    assert list(plain.code) == [f"{package}.data:photos"]


def test_a_model_with_own_code_is_loaded_when_it_is_trusted(file: Path) -> None:
    _, planned = run(file)
    own = next(one for one in planned if one.method.endswith("methods:Method"))
    folder = file.parent / "out" / "runs" / own.id
    with pytest.raises(OodmlError, match="trust_code"):
        oodml.load_model(folder)
    kept = oodml.VectorSet.load(folder / "vectors.npz")
    study = read_study(file)
    images = oodml.load("datasets", study.data.name, classes=9).subset(kept.class_names)
    again = oodml.embed(images, oodml.load_model(folder, trust_code=True))
    order = [again.ids.tolist().index(name) for name in kept.ids.tolist()]
    assert abs(again.vectors[order] - kept.vectors).max() < 1e-5


def test_things_of_an_installed_package_run_by_their_names(file: Path) -> None:
    package = next(file.parent.glob("lab_*")).name
    info = file.parent / f"{package}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.0\n")
    offers = {"losses": "losses:Pull", "miners": "miners:Every", "methods": "methods:Method"}
    offers |= {"backbones": "nets:net", "datasets": "data:photos"}
    groups = (f"[oodml.{kind}]\nmy_{kind} = {package}.{at}\n" for kind, at in offers.items())
    (info / "entry_points.txt").write_text("".join(groups))
    text = file.read_text()
    for kind, at in offers.items():
        text = text.replace(f"{package}.{at}", f"my_{kind}")
    file.write_text(text)
    assert package not in text
    sys.path.insert(0, str(file.parent))
    status, planned = run(file)
    assert len(status.done) == len(planned) == 8
    mined = next(one for one in planned if one.label == "mined")
    assert set(mined.code) == {"my_losses", "my_miners", "my_backbones", "my_datasets"}
