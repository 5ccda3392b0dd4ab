from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from oodml.backbones import load_backbone
from oodml.backbones._libraries import MEAN, STD, load_package_weights
from oodml.errors import OodmlError
from oodml.model import pool_features


@pytest.mark.parametrize(("name", "features"), [("lite0", 1280), ("small", 96), ("pixels", 768)])
def test_maps_have_the_stated_width(name: str, features: int) -> None:
    output = load_backbone(name)(torch.rand(2, 3, 64, 64))
    assert output.shape[:2] == (2, features)
    assert load_backbone(name).features == features


def test_lite0_has_its_imagenet_weights() -> None:
    """With timm's classifier it recognizes a photograph of a flower."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    load_package_weights(network, 0)
    photo = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(photo / 255, (224, 224), mode="area")
    with torch.inference_mode():
        scores = network((small - MEAN[0]) / STD[0])[0]
    daisy = 985  # of ImageNet's 1,000 classes
    assert scores.argmax() == daisy
    assert scores.softmax(0)[daisy] > 0.1


def test_untrained_weights_depend_only_on_the_seed() -> None:
    state = torch.get_rng_state()
    first, again = load_backbone("small"), load_backbone("small")
    other = load_backbone("small", seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[key])
    assert not torch.equal(first.network[0].weight, other.network[0].weight)


def test_tokens_become_a_map() -> None:
    vit = load_backbone("vit_tiny_patch16_224", "none")
    assert vit(torch.rand(1, 3, 224, 224)).shape == (1, 192, 1, 196)
    swin = load_backbone("swin_tiny_patch4_window7_224", "none")
    assert swin(torch.rand(1, 3, 224, 224)).shape == (1, 768, 7, 7)


def test_local_weights(tmp_path: Path) -> None:
    small = load_backbone("small")
    state = {key: torch.randn_like(value) for key, value in small.network.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    loaded = load_backbone("small", str(tmp_path / "w.safetensors"))
    for key, value in loaded.network.state_dict().items():
        assert torch.equal(value, state[key])
    state.pop("0.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(OodmlError, match=r"w.pth: .*'0.weight'"):
        load_backbone("small", str(tmp_path / "w.pth"))
    with pytest.raises(OodmlError, match="v.pth"):
        load_backbone("small", str(tmp_path / "v.pth"))


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"0.weight": Path("x")}, tmp_path / "w.pth")
    with pytest.raises(OodmlError, match="w.pth"):
        load_backbone("small", str(tmp_path / "w.pth"))


def test_an_unknown_name() -> None:
    with pytest.raises(OodmlError) as caught:
        load_backbone("resnet5O")
    assert caught.value.given == "resnet5O"
    assert "resnet50" in caught.value.allowed


FAST = {"resnet18": (512, 224), "efficientnet_b0": (1280, 224)}
SLOW = {
    "resnet50": (2048, 224),
    "resnet101": (2048, 224),
    "resnext101_32x8d": (2048, 224),
    "resnetv2_50x1_bit": (2048, 224),
    "vit_small_patch14_dinov2": (384, 518),
    "vit_base_patch16_clip_224": (768, 224),
    "convnext_tiny": (768, 224),
}
STUDIED = [*FAST.items(), *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW.items())]


@pytest.mark.parametrize(("name", "expected"), STUDIED)
def test_the_networks_of_studies_by_short_name(name: str, expected: tuple[int, int]) -> None:
    """Each returns one vector per image, of the stated width, for its own image size."""
    backbone = load_backbone(name, "none").eval()
    with torch.inference_mode():
        output = backbone(torch.rand(2, 3, backbone.image_size, backbone.image_size))
    assert output.shape[:2] == (2, backbone.features)
    assert pool_features(output, "avg").shape == (2, backbone.features)
    assert (backbone.features, backbone.image_size) == expected
