import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from oodml.errors import OodmlError
from oodml.model import Embedder, IdentityHead, LinearHead, ModelSettings, load_model, pooled


def model(mode: str = "finetune", backbone: str = "small") -> Embedder:
    settings = ModelSettings(backbone=backbone, mode=mode, dim=8, image_size=32)
    width = {"small": 96, "lite0": 1280, "pixels": 768}[backbone]
    return Embedder(settings, LinearHead(width, 8))


@pytest.mark.parametrize(("mode", "backbone"), [("finetune", "small"), ("head", "lite0")])
def test_a_saved_model_embeds_the_same(tmp_path: Path, mode: str, backbone: str) -> None:
    original = model(mode, backbone).eval()
    images = torch.rand(3, 3, 32, 32)
    expected = original(images)
    original.save(tmp_path)
    again = load_model(tmp_path)
    torch.testing.assert_close(again(images), expected)
    assert not again.training
    if mode == "head":
        assert (tmp_path / "model.safetensors").stat().st_size < 50_000


def test_the_frozen_model_is_saved_too(tmp_path: Path) -> None:
    frozen = Embedder(ModelSettings(backbone="pixels", image_size=16), IdentityHead()).eval()
    frozen.save(tmp_path)
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(load_model(tmp_path)(images), frozen(images))


def test_pooling() -> None:
    features = torch.rand(2, 5, 3, 4)
    for name, expected in {
        "avg": features.flatten(2).mean(2),
        "max": features.flatten(2).max(2).values,
        "avg+max": features.flatten(2).mean(2) + features.flatten(2).max(2).values,
    }.items():
        torch.testing.assert_close(pooled(features, name), expected)


def test_frozen_batch_norm_stays_frozen_while_the_rest_trains() -> None:
    trained = Embedder(ModelSettings(mode="finetune", image_size=32), LinearHead(1280, 8))
    before = {k: v.clone() for k, v in trained.backbone.state_dict().items() if "running" in k}
    trained.train()
    trained(torch.rand(4, 3, 32, 32)).sum().backward()
    after = trained.backbone.state_dict()
    assert before
    assert all(torch.equal(after[key], value) for key, value in before.items())
    scale = dict(trained.backbone.named_parameters())["network.bn1.weight"]
    assert scale.grad is not None
    assert scale.grad.abs().sum() > 0
    loose = Embedder(
        ModelSettings(mode="finetune", image_size=32, freeze_batch_norm=False),
        LinearHead(1280, 8),
    )
    loose.backbone.load_state_dict(trained.backbone.state_dict())
    loose.train()
    loose(torch.rand(4, 3, 32, 32))
    assert any(not torch.equal(loose.backbone.state_dict()[k], v) for k, v in before.items())


def test_a_model_that_was_never_used_is_saved_whole(tmp_path: Path) -> None:
    fresh = model().eval()
    fresh.save(tmp_path)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load_model(tmp_path)(images), fresh(images))


def test_a_head_needs_no_backbone() -> None:
    head_only = model("head", "lite0")
    assert "trunk" not in dict(head_only.named_modules())
    assert head_only.backbone is head_only.trunk


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match=r"not a run folder \(it has no model.json\)"):
        load_model(tmp_path)
    model().save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(OodmlError, match="the model cannot be loaded"):
        load_model(tmp_path)
    described["settings"]["backbone"] = "os:system"
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(OodmlError, match="would import the backbone 'os:system'"):
        load_model(tmp_path)
    described["head"]["kind"] = "oodml.files:write_text"
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(OodmlError, match="'oodml.files:write_text' is not one of oodml"):
        load_model(tmp_path)
    described["head"]["kind"] = "os:system"
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(OodmlError, match="'os:system' is not one of oodml"):
        load_model(tmp_path)


def test_a_fine_tuned_model_needs_no_file_of_the_weights_it_began_from(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_file(model().backbone.network.state_dict(), start)
    settings = ModelSettings(
        backbone="small", mode="finetune", weights=str(start), dim=8, image_size=32
    )
    original = Embedder(settings, LinearHead(96, 8)).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = original(images)
    original.save(tmp_path / "run")
    start.unlink()
    again = load_model(tmp_path / "run")
    torch.testing.assert_close(again(images), expected)
    assert again.settings == settings
