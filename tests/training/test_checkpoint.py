"""A training that was interrupted resumes bit for bit."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import oodml
from oodml import catalog
from oodml.backbones import load_backbone
from oodml.embedding import embed
from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.methods.multisimilarity import Method as MultiSimilarity
from oodml.model import Embedder, HeadSettings, LinearHead, parse_model_settings
from oodml.randomness import isolated
from oodml.results.plan import RunPlan
from oodml.study.folder.store import Store
from oodml.study.prepare import RunArtifacts
from oodml.training.checkpoint import Checkpoint
from oodml.training.loop import History, train
from oodml.training.settings import TrainSettings
from oodml.training.sources import FeatureSource, ImageSource
from tests.images.samples import squares

CPU = torch.device("cpu")
OPTIONS: dict[str, dict[str, Any]] = {
    "criterion": {"loss": "triplet", "miner": "semihard"},
    "s2sd": {"dims": [16, 24]},
}
TRAINED = [name for name in oodml.names("methods") if catalog.get_class("methods", name).trains]
EPOCHS = 4


class InterruptedError(Exception):
    """Stands for kill -9."""


def run(
    name: str, mode: str, checkpoint: Checkpoint | None = None, stop: int = 0
) -> tuple[Embedder, History]:
    """A training of four epochs whose second is the best; interrupted after `stop` of them."""
    images = squares()
    with isolated(3):
        width = 96 if mode == "finetune" else 768
        settings = parse_model_settings(
            {"backbone": "small", "mode": mode, "dim": 8, "image_size": 24}
        )
        backbone = load_backbone("small") if mode == "finetune" else None
        model = Embedder(settings, nn.Identity(), backbone)
        method = catalog.load("methods", name, sizes=Sizes(6, 8, width), **OPTIONS.get(name, {}))
        model.head = method.head() or LinearHead(width, 8)
        if mode == "finetune":
            source = ImageSource(images, images.labels, 24, "gentle")
        else:
            views = [embed(images, "pixels", view=v, augmentation="gentle") for v in range(2)]
            stacked = torch.stack([torch.from_numpy(view.vectors) for view in views])
            source = FeatureSource(stacked, images.labels)

        def log(row: dict[str, float]) -> None:
            if row["epoch"] == stop:
                raise InterruptedError

        def validate() -> dict[str, float]:
            state = model.trained.state_dict()
            total = sum(float(tensor.abs().sum()) for tensor in state.values())
            return {"recall@1": -abs(torch.rand(()).item() - 1e-9 * total)}

        history = train(
            model,
            method,
            source,
            TrainSettings(epochs=EPOCHS, batch_size=12, lr=1e-3),
            seed=0,
            device=CPU,
            validate=validate,
            checkpoint=checkpoint,
            log=log,
        )
    return model, history


def checkpoint(folder: Path, key: str = "this") -> Checkpoint:
    return Checkpoint(folder / "train.pt", key, every=0)


@pytest.mark.parametrize("mode", ["head", "finetune"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_resumes_bit_for_bit(name: str, mode: str, tmp_path: Path) -> None:
    if catalog.get_class("methods", name).modes[mode]:
        return
    expected, whole = run(name, mode)
    with pytest.raises(InterruptedError):
        run(name, mode, checkpoint(tmp_path), stop=3)  # epoch 3 is not in the checkpoint
    resumed, history = run(name, mode, checkpoint(tmp_path))
    assert history == whole
    for key, value in expected.trained.state_dict().items():
        assert torch.equal(resumed.trained.state_dict()[key], value), key


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    _, whole = run("margin", "head", checkpoint(tmp_path))
    _, history = run("margin", "head", checkpoint(tmp_path), stop=EPOCHS)
    assert history == whole


@pytest.mark.parametrize("damage", ["torn", "foreign", "empty", "code"])
def test_a_checkpoint_that_does_not_fit_is_ignored(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InterruptedError):
        run("margin", "head", checkpoint(tmp_path), stop=3)
    path = checkpoint(tmp_path).path
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[: len(whole) // 2])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "code":
        torch.save({"key": "3this", "state": Path("x")}, path)
    key = "other" if damage == "foreign" else "this"
    with caplog.at_level(logging.WARNING, "oodml"):
        _, history = run("margin", "head", checkpoint(tmp_path, key))
    assert "train.pt" in caplog.text
    assert history == run("margin", "head")[1]


def test_checkpoints_have_a_minimum_distance(tmp_path: Path) -> None:
    never = Checkpoint(tmp_path / "never.pt", "this", every=3600)
    run("margin", "head", never)
    assert not never.path.exists()


def test_a_checkpoint_that_cannot_be_saved_never_fails_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", fail)
    with caplog.at_level(logging.WARNING, "oodml"):
        _, history = run("margin", "head", checkpoint(tmp_path))
    assert history == run("margin", "head")[1]
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()
    assert list(tmp_path.iterdir()) == []


class WithState(MultiSimilarity):
    """A user's method with every kind of state that the contract allows."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.dropout = nn.Dropout(0.5)  # draws from the global generator
        self.register_buffer("steps", torch.zeros(()))
        self.seen = 0
        self.queue: list[torch.Tensor] = []
        self.generator = torch.Generator().manual_seed(3)
        self.adversary = nn.Linear(8, 1)
        self.optimizer = torch.optim.Adam(self.adversary.parameters(), lr=1e-2)

    def get_extra_state(self) -> dict[str, Any]:
        return {
            "seen": self.seen,
            "queue": self.queue,
            "generator": self.generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.seen, self.queue = state["seen"], state["queue"]
        self.generator.set_state(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return self.mined[0].parameter_groups(lr)

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.steps += 1
        self.seen += len(batch.labels)
        self.queue = [*self.queue, batch.embeddings.detach()][-2:]
        self.optimizer.zero_grad()
        self.adversary(batch.embeddings.detach()).square().mean().backward()
        self.optimizer.step()
        noise = torch.rand((), generator=self.generator)
        pull = (self.dropout(batch.embeddings) - self.queue[0]).square().mean()
        judged = self.adversary(batch.embeddings).mean() * noise
        return super().terms(batch) | {"pull": pull, "judged": judged, "seen": 0 * pull + self.seen}


def train_method(
    make: Callable[[Sizes], BaseMethod], saved: Checkpoint | None, stop: int = 0
) -> tuple[Embedder, History]:
    """A training of four epochs on features; interrupted after `stop` of them."""
    images = squares()
    features = torch.from_numpy(embed(images, "pixels").vectors)[None]
    with isolated(0):
        method = make(Sizes(6, 8, 768))
        model = Embedder(HeadSettings(backbone="pixels", dim=8), LinearHead(768, 8))

        def log(row: dict[str, float]) -> None:
            if row["epoch"] == stop:
                raise InterruptedError

        source = FeatureSource(features, images.labels)
        settings = TrainSettings(epochs=4, batch_size=12)
        history = train(
            model, method, source, settings, seed=0, device=CPU, checkpoint=saved, log=log
        )
    return model, history


def test_a_method_resumes_with_the_state_that_it_returns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InterruptedError):
        train_method(WithState, checkpoint(tmp_path), stop=3)
    path = checkpoint(tmp_path).find()
    assert path is not None
    assert torch.load(path, weights_only=True)["state"]["epoch"] == 2
    resumed, history = train_method(WithState, checkpoint(tmp_path))
    whole, expected = train_method(WithState, None)
    assert history == expected
    assert torch.equal(resumed.head.linear.weight, whole.head.linear.weight)
    assert caplog.records == []


def test_modules_created_during_training_start_it_from_the_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(MultiSimilarity):
        """Creates a module in the first step."""

        def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
            self.late = nn.Linear(2, 2)
            return super().terms(batch)

    with pytest.raises(InterruptedError):
        train_method(Late, checkpoint(tmp_path), stop=3)
    with caplog.at_level(logging.WARNING, "oodml"):
        _, history = train_method(Late, checkpoint(tmp_path))
    assert "checkpoint" in caplog.text
    assert history == train_method(Late, None)[1]


def test_state_that_cannot_be_loaded_starts_from_the_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Opaque(MultiSimilarity):
        """Returns an object as state, which the contract does not allow."""

        def get_extra_state(self) -> Path:
            return Path("x")

        def set_extra_state(self, state: Path) -> None:
            raise AssertionError

    with pytest.raises(InterruptedError):
        train_method(Opaque, checkpoint(tmp_path), stop=3)
    with caplog.at_level(logging.WARNING, "oodml"):
        _, history = train_method(Opaque, checkpoint(tmp_path))
    assert "train.pt" in caplog.text
    assert history == train_method(Opaque, None)[1]


def test_a_refit_resumes_only_from_one_with_as_many_epochs(tmp_path: Path) -> None:
    run = RunPlan(id="a", data="d", fingerprint="f", label="m", method="margin", split="0",
                  shift=0.0, seed=0)  # fmt: skip
    artifacts = RunArtifacts(Store(tmp_path), run)
    keys = [artifacts.checkpoint("refit", CPU, epochs).key for epochs in (3, 3, 4)]
    assert keys[0] == keys[1] != keys[2]
