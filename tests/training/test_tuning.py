"""What trains, merged adapters, retention, weight averages, and chunked batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oodml.backbones import load_backbone
from oodml.checks.samples import squares
from oodml.errors import OodmlError
from oodml.export import export_safetensors, load_exported, model_metadata
from oodml.methods._base import Sizes
from oodml.methods.criterion import Method
from oodml.model import Embedder, LinearHead, parse_model_settings
from oodml.randomness import isolated
from oodml.training.checkpoint import Checkpoint
from oodml.training.loop import History, train
from oodml.training.settings import TrainSettings
from oodml.training.sources import ImageSource
from oodml.training.trainer import Trainer
from oodml.training.tuning import Tuning

IMAGES = squares(4, 4, side=32)
NETWORKS = ["resnet18", "vit_tiny_patch16_224", "convnext_atto"]
PATCH = {"vit_tiny_patch16_224": 32}


def build(backbone: str = "small", **settings: Any) -> Embedder:
    with isolated(0):
        network = load_backbone(backbone, "none")
        options = {"backbone": backbone, "mode": "finetune", "dim": 8, "image_size": 32}
        parsed = parse_model_settings(options | settings)
        model = Embedder(parsed, torch.nn.Identity(), network)
        model.head = LinearHead(network.width(parsed.pooling), 8)
    return model


def run(
    model: Embedder, epochs: int = 1, checkpoint: Checkpoint | None = None, **settings: Any
) -> History:
    options = {"epochs": epochs, "batch_size": 8, "lr": 1e-2, "weight_decay": 0.1}
    known = {"seed": 0, "device": torch.device("cpu"), "checkpoint": checkpoint}
    extra = ("teacher", "validate", "diagnose")
    known |= {key: settings.pop(key) for key in extra if key in settings}
    with isolated(1):
        method = Method(Sizes(4, 8, 1), settings.pop("loss", "supcon"))
        source = ImageSource(IMAGES, IMAGES.labels, 32, "gentle")
        parsed = TrainSettings.model_validate(options | settings)
        return train(model, method, source, parsed, **known)


def changed(before: dict[str, Tensor], model: Embedder) -> set[str]:
    after = model.state_dict()
    assert before.keys() == after.keys()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def state(model: Embedder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


HEAD = {"head.linear.weight", "head.linear.bias"}
LAST = {
    "resnet18": "backbone.network.layer4.1.",
    "vit_tiny_patch16_224": "backbone.network.blocks.11.",
    "convnext_atto": "backbone.network.stages.3.blocks.1.",
}


@pytest.mark.parametrize("tune", ["head", "norm", "last:1", "full"])
@pytest.mark.parametrize("name", NETWORKS)
def test_only_the_stated_parameters_change(name: str, tune: str) -> None:
    model = build(name, tune=tune)
    before = state(model)
    history = run(model)
    names = changed(before, model)
    assert names >= HEAD
    own = {n for n in names - HEAD if "num_batches" not in n}
    parameters = {n for n, _ in model.backbone.named_parameters(prefix="backbone")}
    if tune == "head":
        assert not own
    elif tune == "full":
        assert len(own) > 0.9 * len(parameters)
    elif tune == "last:1":
        last = (LAST[name], "backbone.network.norm.", "backbone.network.head.norm.")
        assert own == {n for n in parameters if n.startswith(last)}
    else:
        assert own
        assert all(before[n].ndim == 1 or "norm" in n for n in own)
    n_parameters = sum(dict(model.named_parameters())[n].numel() for n in own | HEAD)
    if tune != "full":
        assert history.cost["parameters"] == n_parameters


@pytest.mark.parametrize("name", [*NETWORKS, "small"])
def test_merged_adapters_equal_unmerged_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    unmerged: list[Tensor] = []
    finish = Tuning.finish

    def recording(self: Tuning) -> None:
        with torch.inference_mode():
            unmerged.append(model.eval()(images))
        finish(self)

    monkeypatch.setattr(Tuning, "finish", recording)
    model = build(name, tune="lora", lora={"rank": 2})
    before = state(model)
    history = run(model)
    names = changed(before, model)
    assert names - HEAD
    assert all(before[n].ndim >= 2 for n in names - HEAD)
    assert history.cost["parameters"] < sum(p.numel() for p in model.parameters())
    with torch.inference_mode():
        merged = model.eval()(images)
    torch.testing.assert_close(merged, unmerged[0], atol=1e-5, rtol=0)
    export_safetensors(model, tmp_path / "model.safetensors", model_metadata(model, {}))
    with torch.inference_mode():
        loaded = load_exported(tmp_path / "model.safetensors")(images)
    torch.testing.assert_close(loaded, merged, atol=1e-6, rtol=0)


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({"tune": "lora"}, {}),
    "last": ({"tune": "last:2"}, {"layer_decay": 0.5, "chunk_size": 3}),
    "average": ({}, {"ema": 0.5, "retain": {"embedding": 1.0, "relation": 1.0, "weights": 0.1,
                                            "teacher": "live"}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_resumed_training_is_equal_bit_for_bit(kind: str, tmp_path: Path) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    model_settings, settings = SETTINGS[kind]
    whole = build(**model_settings)
    expected = run(whole, 3, **settings)
    checkpoint = Checkpoint(tmp_path / "half.pt", "test", every=0.0)
    run(build(**model_settings), 2, checkpoint, **settings)
    resumed = build(**model_settings)
    history = run(resumed, 3, checkpoint, **settings)
    assert history.rows == expected.rows
    assert not changed(state(whole), resumed)


def gradients(chunk: int | None) -> dict[str, Tensor]:
    """The gradients of the loss of a batch, in float64."""
    model = build("vit_tiny_patch16_224", dim=8).double()
    settings = TrainSettings(chunk_size=chunk)
    method, cpu = Method(Sizes(4, 8, 1), "multisimilarity"), torch.device("cpu")
    random = torch.Generator().manual_seed(0)
    trainer = Trainer(model, method, settings, random, cpu, Tuning(model, settings))
    images = torch.rand(8, 3, 32, 32, generator=random, dtype=torch.float64)
    features = trainer._encode(8, model, images)
    method.mined[0](model.head.embed(features), torch.arange(8) // 2, random).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_chunks_have_the_gradients_of_the_whole_batch() -> None:
    whole, chunked = gradients(None), gradients(3)
    assert whole.keys() == chunked.keys()
    assert len(whole) > 100
    for name, value in whole.items():
        assert (value - chunked[name]).norm() <= 1e-6 * value.norm() + 1e-15, name


def test_the_learning_rate_decays_over_layers() -> None:
    model = build("vit_tiny_patch16_224")
    settings = TrainSettings(lr=1.0, layer_decay=0.5)
    groups = Tuning(model, settings).parameter_groups(settings)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    network = model.backbone.network
    assert len(rates) == len(list(network.parameters()))
    assert rates[id(network.blocks[11].attn.qkv.weight)] == 1
    assert rates[id(network.blocks[10].attn.qkv.weight)] == 0.5
    assert rates[id(network.patch_embed.proj.weight)] == 0.5**12


def test_retention_terms() -> None:
    model = build()
    teacher = torch.randn(len(IMAGES), 96, generator=torch.Generator().manual_seed(0))
    free, held = build(), build()
    run(free, 2)
    retain = {"embedding": 2.0, "relation": 3.0, "weights": 100.0}
    rows = run(held, 2, retain=retain, teacher=teacher).rows
    assert {"retain_embedding", "retain_relation", "retain_weights"} <= rows[0].keys()
    assert rows[0]["retain_weights"] >= 0

    def distance(trained: Embedder) -> float:
        pairs = zip(trained.backbone.parameters(), model.backbone.parameters(), strict=True)
        return float(sum((a - b).detach().square().sum() for a, b in pairs))

    assert distance(held) < distance(free)


def test_retention_terms_equal_their_formulas() -> None:
    from oodml.methods._base import Batch
    from oodml.training.settings import Retain
    from oodml.training.tuning import Retention

    random = torch.Generator().manual_seed(0)
    x, z, t = (torch.randn(5, d, generator=random) for d in (6, 3, 6))
    retain = Retain(embedding=2.0, relation=3.0, weights=0.5)
    parameter = torch.nn.Parameter(torch.zeros(2))
    retention = Retention(retain, build(), [parameter], t[[4, 3, 2, 1, 0]])
    batch = Batch(x, {"embedding": z}, torch.arange(5), 0, random)
    terms = retention.terms(batch, torch.tensor([4, 3, 2, 1, 0]))
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(x, t, strict=True)]
    assert terms["retain_embedding"].item() == pytest.approx(2 * (1 - np.mean(cosines)), rel=1e-5)
    total = 0.0
    for i in range(5):
        p, q = ([float(r[i] @ r[j] / r[i].norm() / r[j].norm()) / 0.1 for j in range(5)]
                for r in (t, z))  # fmt: skip
        p, q = (np.exp(v) / np.exp(v).sum() for v in (np.array(p), np.array(q)))
        total += float((p * np.log(p / q)).sum())
    assert terms["retain_relation"].item() == pytest.approx(3 * total / 5, rel=1e-4)
    with torch.no_grad():
        parameter.copy_(torch.tensor([3.0, 4.0]))
    parameter.grad = torch.ones(2)
    assert retention.pull_weights()["retain_weights"].item() == pytest.approx(0.5 * 25 / 2)
    assert parameter.grad.tolist() == [2.5, 3.0]


def test_the_average_with_the_best_validation_is_used() -> None:
    start, model = build(), build()
    scores = iter([0.1, 0.2, 0.5, 0.3])
    history = run(model, validate=lambda: {"recall@1": next(scores)}, average=[0.25])
    assert [row["share"] for row in history.path] == [0.0, 0.25, 1.0]
    assert history.path[1]["validation_recall@1"] == 0.5
    assert history.validation == {"recall@1": 0.5}
    end = build()
    run(end)
    names = [name for name in state(start) if name.startswith("backbone")]
    for name in names:
        expected = state(start)[name].lerp(state(end)[name], 0.25)
        torch.testing.assert_close(state(model)[name], expected)
    assert torch.equal(model.head.linear.weight, end.head.linear.weight)


def test_the_moving_average_is_evaluated_and_used() -> None:
    from oodml.training.tuning import MovingAverage

    parameter = torch.nn.Parameter(torch.zeros(1))
    average = MovingAverage([parameter], 0.75)
    expected = 0.0
    for value in (1.0, 2.0, -3.0):
        parameter.data.fill_(value)
        average.update()
        expected = 0.75 * expected + 0.25 * value
    with average.applied():
        assert parameter.item() == pytest.approx(expected)
    assert parameter.item() == -3
    averaged, plain = build(), build()
    run(averaged, ema=0.9)
    run(plain)
    assert changed(state(plain), averaged)


def test_refused_settings() -> None:
    with pytest.raises(OodmlError) as error:
        run(build(tune="last:99"))
    assert error.value.location == "model.tune"
    with pytest.raises(OodmlError) as error:
        run(build(), gradient_checkpointing=True)
    assert error.value.location == "train.gradient_checkpointing"
    with pytest.raises(ValueError, match="tune"):
        build(tune="first:2")


def test_gradient_checkpointing_changes_nothing() -> None:
    plain, less = build("vit_tiny_patch16_224"), build("vit_tiny_patch16_224")
    run(plain)
    run(less, gradient_checkpointing=True)
    for name, value in state(plain).items():
        torch.testing.assert_close(state(less)[name], value, atol=1e-6, rtol=1e-5)
