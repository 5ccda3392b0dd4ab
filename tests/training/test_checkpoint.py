"""A training that was stopped goes on where it was, to the bit."""

import errno
import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import oodml
from oodml import catalog
from oodml.embedding import embed
from oodml.held import load_module_state, module_state
from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.methods.multisimilarity import Method as MultiSimilarity
from oodml.model import Embedder, LinearHead, ModelSettings
from oodml.randomness import isolated
from oodml.states import Inside, read_state, state_key, write_state
from oodml.study.folder.store import Store
from oodml.study.run_artifacts import Keep
from oodml.training.checkpoint import Checkpoint
from oodml.training.loop import History, train
from oodml.training.settings import TrainSettings
from oodml.training.sources import FeatureSource, ImageSource
from tests.images.samples import squares

CPU = torch.device("cpu")
GIVEN: dict[str, dict[str, Any]] = {
    "criterion": {"loss": "triplet", "miner": "semihard"},
    "s2sd": {"dims": [16, 24]},
}
TRAINED = [name for name in oodml.names("methods") if catalog.find("methods", name).trains]
EPOCHS = 4


class StoppedError(Exception):
    """As good as kill -9."""


def run(
    name: str, mode: str, checkpoint: Checkpoint | None = None, stop: int = 0
) -> tuple[Embedder, History]:
    """A training of four epochs whose second is the best; stopped after `stop` of them."""
    images = squares()
    with isolated(3):
        width = 96 if mode == "finetune" else 768
        settings = ModelSettings(backbone="small", mode=mode, dim=8, image_size=24)
        model = Embedder(settings, nn.Identity()).with_backbone()
        method = catalog.load("methods", name, sizes=Sizes(6, 8, width), **GIVEN.get(name, {}))
        model.head = method.head() or LinearHead(width, 8)
        if mode == "finetune":
            source = ImageSource(images, images.labels, 24, "gentle")
        else:
            views = [embed(images, "pixels", view=v, augmentation="gentle") for v in range(2)]
            stacked = torch.stack([torch.from_numpy(view.vectors) for view in views])
            source = FeatureSource(stacked, images.labels)

        def log(row: dict[str, float]) -> None:
            if row["epoch"] == stop:
                raise StoppedError

        def validate() -> dict[str, float]:
            found = model.trained.state_dict()
            total = sum(float(tensor.abs().sum()) for tensor in found.values())
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
    return Checkpoint(folder / "train.safetensors", key, every=0)


@pytest.mark.parametrize("mode", ["head", "finetune"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_goes_on_to_the_bit(name: str, mode: str, tmp_path: Path) -> None:
    if catalog.find("methods", name).modes[mode]:
        return
    expected, whole = run(name, mode)
    with pytest.raises(StoppedError):
        run(name, mode, checkpoint(tmp_path), stop=3)  # epoch 3 is not in the checkpoint
    again, history = run(name, mode, checkpoint(tmp_path))
    assert history == whole
    for key, value in expected.trained.state_dict().items():
        assert torch.equal(again.trained.state_dict()[key], value), key


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    _, whole = run("margin", "head", checkpoint(tmp_path))
    _, history = run("margin", "head", checkpoint(tmp_path), stop=EPOCHS)
    assert history == whole


@pytest.mark.parametrize("damage", ["torn", "foreign", "no state at all"])
def test_a_checkpoint_that_does_not_fit_is_passed_over(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoppedError):
        run("margin", "head", checkpoint(tmp_path), stop=3)
    path = checkpoint(tmp_path).path
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[: len(whole) // 2])
    if damage == "no state at all":
        path.write_bytes(b"")
    with caplog.at_level(logging.WARNING, "oodml"):
        _, history = run("margin", "head", checkpoint(tmp_path, "other" if damage == "foreign" else
                                                      "this"))  # fmt: skip
    assert "passed over, the training starts anew" in caplog.text
    assert history == run("margin", "head")[1]


def test_checkpoints_are_as_far_apart_as_asked(tmp_path: Path) -> None:
    never = Checkpoint(tmp_path / "never.safetensors", "this", every=3600)
    run("margin", "head", never)
    assert not never.path.exists()


def test_a_checkpoint_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("oodml.training.checkpoint.write_state", full)
    with caplog.at_level(logging.WARNING, "oodml"):
        _, history = run("margin", "head", checkpoint(tmp_path))
    assert history == run("margin", "head")[1]
    (told,) = caplog.records
    assert "train.safetensors: the checkpoint cannot be written" in told.getMessage()
    assert "No space left on device" in told.getMessage()


def test_a_refit_goes_on_only_from_one_of_as_many_epochs(tmp_path: Path) -> None:
    keep = Keep(Store(tmp_path), {"id": "this"})
    keys = [keep.checkpoint("refit", CPU, epochs).key for epochs in (3, 3, 4)]
    assert keys[0] == keys[1] != keys[2]


class Forgetful(MultiSimilarity):
    """Draws from the global generator, as dropout does, and counts in plain attributes."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.dropout = nn.Dropout(0.5)
        self.seen = 0
        self.memory: dict[str, list[torch.Tensor]] = {"rows": []}

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.seen += len(batch.labels)
        self.memory = {"rows": [*self.memory["rows"], batch.embeddings.detach()][-2:]}
        pull = (self.dropout(batch.embeddings) - self.memory["rows"][0]).square().mean()
        return super().terms(batch) | {"pull": pull, "seen": 0 * pull + self.seen}


def stopped(
    make: Callable[[Sizes], BaseMethod], kept: Checkpoint | None, stop: int = 0
) -> tuple[Embedder, History]:
    """A training of four epochs on features by a method; stopped after `stop` of them."""
    images = squares()
    features = torch.from_numpy(embed(images, "pixels").vectors)[None]
    with isolated(0):
        method = make(Sizes(6, 8, 768))
        model = Embedder(ModelSettings(backbone="pixels", dim=8), LinearHead(768, 8))

        def log(row: dict[str, float]) -> None:
            if row["epoch"] == stop:
                raise StoppedError

        source = FeatureSource(features, images.labels)
        settings = TrainSettings(epochs=4, batch_size=12)
        history = train(
            model, method, source, settings, seed=0, device=CPU, checkpoint=kept, log=log
        )
    return model, history


def test_dropout_and_memories_go_on(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        stopped(Forgetful, checkpoint(tmp_path), stop=3)
    assert stopped(Forgetful, checkpoint(tmp_path))[1] == stopped(Forgetful, None)[1]


class Miner:
    """A plain object that counts, and whose first child knows it."""

    def __init__(self) -> None:
        self.calls = 0
        self.parent: Miner | None = None


def _underscore(method: Any) -> float:
    method._seen = getattr(method, "_seen", 0) + 1
    return float(method._seen)


def _array(method: Any) -> float:
    method.array += 1
    return float(method.array.sum())


def _scalar(method: Any) -> float:
    method.scalar += np.float32(0.1)
    return float(method.scalar)


def _queue(method: Any) -> float:
    method.queue.append(len(method.queue) + sum(method.queue))
    return float(sum(method.queue))


def _object(method: Any) -> float:
    method.miner.calls += 1
    method.miner.parent.calls += 2
    return float(method.miner.calls + method.miner.parent.parent.calls)


def _counter(method: Any) -> float:
    method.counter["step"] += 1
    method.seen.add(method.counter["step"])
    return float(len(method.seen) + method.counter["step"])


def _generators(method: Any) -> float:
    torchs = torch.rand((), generator=method.generator).item()
    return torchs + method.numpys.random() + method.pythons.random()


def _buffer(method: Any) -> float:
    method.steps += 1
    return float(method.steps)


def _hidden(method: Any) -> float:
    """Modules and parameters that torch doesn't see, trained by an own optimiser."""
    method.optimizer.zero_grad()
    (method.hidden[0](torch.ones(1, 2)).square().sum() + method.loose.square().sum()).backward()
    method.optimizer.step()
    return float(method.hidden[0].weight.detach().sum() + method.loose.detach().sum())


class Remembers(MultiSimilarity):
    """Keeps all that a method may keep."""

    def __init__(self, sizes: Sizes, remember: Callable[[Any], float]) -> None:
        super().__init__(sizes)
        self.remember = remember
        self.array = np.zeros((2, 3))
        self.scalar = np.float32(0.0)
        self.queue: deque[float] = deque(maxlen=3)
        self.miner = Miner()
        self.miner.parent = Miner()
        self.miner.parent.parent = self.miner
        self.counter = Counter[str]()
        self.seen: set[int] = set()
        self.generator = torch.Generator().manual_seed(3)
        self.numpys = np.random.default_rng(3)
        self.pythons = random.Random(3)
        self.register_buffer("steps", torch.zeros(()), persistent=False)
        self.hidden = [nn.Linear(2, 2)]
        self.loose = torch.ones(2, requires_grad=True)
        own = [*self.hidden[0].parameters(), self.loose]
        self.optimizer = torch.optim.Adam(own, lr=np.float32(1e-2))  # type: ignore[arg-type]

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        value = self.remember(self)
        return super().terms(batch) | {"remembered": batch.embeddings[:, 0].sum() * value}


MEMORIES = (_underscore, _array, _scalar, _queue, _object, _counter, _generators, _buffer, _hidden)


@pytest.mark.parametrize("remember", MEMORIES)
def test_all_that_a_method_keeps_goes_on(
    remember: Callable[[Any], float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make = partial(Remembers, remember=remember)
    with pytest.raises(StoppedError):
        stopped(make, checkpoint(tmp_path), stop=3)
    (again, history), (whole, expected) = stopped(make, checkpoint(tmp_path)), stopped(make, None)
    assert history == expected
    assert torch.equal(again.head.linear.weight, whole.head.linear.weight)
    assert caplog.records == []


def test_modules_that_are_made_on_the_way_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(MultiSimilarity):
        """Makes a module at the first step."""

        def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
            self.late = nn.Linear(2, 2)
            return super().terms(batch)

    with pytest.raises(StoppedError):
        stopped(Late, checkpoint(tmp_path), stop=3)
    with caplog.at_level(logging.WARNING, "oodml"):
        _, history = stopped(Late, checkpoint(tmp_path))
    assert "made on the way; the training starts anew" in caplog.text
    assert history == stopped(Late, None)[1]


def test_what_a_checkpoint_cannot_hold_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Endless(Forgetful):
        """Counts by an iterator, in an object of its own."""

        def __init__(self, sizes: Sizes) -> None:
            super().__init__(sizes)
            self.miner = Miner()
            self.miner.parent = iter(range(9))  # type: ignore[assignment]

    with caplog.at_level(logging.WARNING, "oodml"):
        stopped(Endless, checkpoint(tmp_path))
    (told,) = caplog.records
    assert told.getMessage().endswith("what the method keeps in: miner.parent")


def test_a_state_survives_a_file(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    state = {
        1: [shared, shared, None, True, 0.1, float("inf"), "ä"],
        "nested": {"empty": {}, "tuple": (1, [torch.zeros(0, 3, dtype=torch.int64)])},
        "view": torch.arange(6).view(2, 3).T,
        "arrays": [np.arange(6, dtype=">i2").reshape(2, 3).T, np.zeros((0, 2)), np.array("ä")],
        "scalar": np.float32(0.1),
        "others": (deque([1, {2}], maxlen=2), frozenset({"a"}), Inside({"n": 1})),
    }
    write_state(tmp_path / "state.safetensors", state, "key")
    assert state_key(tmp_path / "state.safetensors") == "key"
    found = read_state(tmp_path / "state.safetensors", CPU)
    assert found[1][2:] == state[1][2:]
    assert torch.equal(found[1][1], shared)
    assert found["nested"]["tuple"][1][0].shape == (0, 3)
    assert torch.equal(found["view"], state["view"])
    for array, expected in zip(found["arrays"], state["arrays"], strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
        assert array.flags.writeable
    assert type(found["scalar"]) is np.float32
    assert found["scalar"] == np.float32(0.1)
    assert found["others"] == state["others"]
    assert found["others"][0].maxlen == 2
    with pytest.raises(TypeError, match="holds a PosixPath"):
        write_state(tmp_path / "bad.safetensors", {"path": tmp_path}, "key")
    assert not (tmp_path / "bad.safetensors").exists()


def test_the_state_of_a_module_holds_its_optimisers() -> None:
    def make() -> nn.Module:
        module = nn.Module()
        module.layer = nn.Linear(2, 2)
        module.optimizer = torch.optim.Adam(module.layer.parameters(), lr=0.1)
        module.count = 0
        return module

    def step(module: Any) -> None:
        module.optimizer.zero_grad()
        module.layer(torch.ones(1, 2)).square().sum().backward()
        module.optimizer.step()
        module.count += 1

    with torch.random.fork_rng():
        one, other = make(), make()
    step(one)
    load_module_state(other, deepcopy(module_state(one)))
    step(one)
    step(other)
    assert torch.equal(one.layer.weight, other.layer.weight)
    assert other.count == 2
