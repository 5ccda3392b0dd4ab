import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from oodml.backbones import load_backbone
from oodml.errors import OodmlError
from oodml.model import (
    Embedder,
    FinetuneSettings,
    HeadSettings,
    LinearHead,
    ModelTable,
    finetune_settings,
    frozen_model,
    load_model,
    parse_model_settings,
    pool_features,
)


def model(mode: str = "finetune", backbone: str = "small") -> Embedder:
    settings = parse_model_settings(
        {"backbone": backbone, "mode": mode, "dim": 8, "image_size": 32}
    )
    width = {"small": 96, "lite0": 1280, "pixels": 768}[backbone]
    return Embedder(settings, LinearHead(width, 8), load_backbone(backbone))


@pytest.mark.parametrize(("mode", "backbone"), [("finetune", "small"), ("head", "lite0")])
def test_a_saved_model_embeds_the_same(tmp_path: Path, mode: str, backbone: str) -> None:
    original = model(mode, backbone).eval()
    images = torch.rand(3, 3, 32, 32)
    expected = original(images)
    original.save(tmp_path)
    loaded = load_model(tmp_path)
    torch.testing.assert_close(loaded(images), expected)
    assert not loaded.training
    if mode == "head":
        assert (tmp_path / "model.safetensors").stat().st_size < 50_000


def test_a_frozen_model_is_saved_and_loaded(tmp_path: Path) -> None:
    frozen = frozen_model("pixels", normalize=True)
    frozen.save(tmp_path)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(load_model(tmp_path)(images), frozen(images))


def test_pooling() -> None:
    features = torch.rand(2, 5, 3, 4)
    for name, expected in {
        "avg": features.flatten(2).mean(2),
        "max": features.flatten(2).max(2).values,
        "avg+max": features.flatten(2).mean(2) + features.flatten(2).max(2).values,
    }.items():
        torch.testing.assert_close(pool_features(features, name), expected)


def running_statistics(model: Embedder) -> dict[str, torch.Tensor]:
    state = model.require_backbone().state_dict()
    return {key: value.clone() for key, value in state.items() if "running" in key}


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_keeps_its_statistics(frozen: bool) -> None:
    settings = FinetuneSettings(image_size=32, freeze_batch_norm=frozen)
    trained = Embedder(settings, LinearHead(1280, 8), load_backbone("lite0"))
    before = running_statistics(trained)
    trained.train()
    trained(torch.rand(4, 3, 32, 32)).sum().backward()
    after = running_statistics(trained)
    assert before
    assert all(torch.equal(after[key], value) for key, value in before.items()) is frozen
    scale = dict(trained.require_backbone().named_parameters())["network.bn1.weight"]
    assert scale.grad is not None
    assert scale.grad.abs().sum() > 0


def test_a_head_needs_no_backbone() -> None:
    head = Embedder(HeadSettings(dim=8), LinearHead(1280, 8))
    assert head.trained is head.head
    assert head.trained_backbone is None
    with pytest.raises(OodmlError, match="load_backbone"):
        head(torch.rand(1, 3, 32, 32))


def test_settings_of_a_mode_contain_only_its_keys() -> None:
    head = parse_model_settings({"views": 2, "freeze_batch_norm": True})
    assert head == HeadSettings(views=2)
    finetune = parse_model_settings({"mode": "finetune", "views": 2, "input_cache": 64})
    assert finetune == FinetuneSettings(input_cache=64)
    both = HeadSettings.model_fields.keys() | FinetuneSettings.model_fields.keys()
    assert both == ModelTable.model_fields.keys()
    with pytest.raises(ValueError, match="colour"):
        parse_model_settings({"colour": 1})
    with pytest.raises(ValueError, match="mode"):
        parse_model_settings({"mode": "heads"})


def test_a_head_as_a_whole_network_reads_the_original_images() -> None:
    assert finetune_settings(HeadSettings(dim=8)) == FinetuneSettings(dim=8, input_cache="off")
    settings = FinetuneSettings(input_cache=64)
    assert finetune_settings(settings) is settings


def test_folders_that_are_not_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="model.json"):
        load_model(tmp_path)
    model().save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(OodmlError) as caught:
        load_model(tmp_path)
    assert caught.value.location == str(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(OodmlError) as caught:
        load_model(tmp_path)
    assert caught.value.location == str(tmp_path)
    for table, key, name in (
        ("settings", "backbone", "os:system"),
        ("head", "kind", "oodml.files:write_text"),
        ("head", "kind", "os:system"),
    ):
        changed = {**description, table: {**description[table], key: name}}
        (tmp_path / "model.json").write_text(json.dumps(changed))
        with pytest.raises(OodmlError, match="--trust-code") as caught:
            load_model(tmp_path)
        assert caught.value.given == name


def test_a_fine_tuned_model_does_not_need_its_initial_weights(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_file(load_backbone("small").network.state_dict(), start)
    settings = FinetuneSettings(backbone="small", weights=str(start), dim=8, image_size=32)
    backbone = load_backbone("small", str(start))
    original = Embedder(settings, LinearHead(96, 8), backbone).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = original(images)
    original.save(tmp_path / "run")
    start.unlink()
    loaded = load_model(tmp_path / "run")
    torch.testing.assert_close(loaded(images), expected)
    assert loaded.settings == settings


def test_a_custom_head_without_options_cannot_be_saved(tmp_path: Path) -> None:
    custom = Embedder(HeadSettings(), torch.nn.Identity())
    with pytest.raises(OodmlError, match="options"):
        custom.save(tmp_path)
