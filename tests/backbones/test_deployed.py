"""`embed` equals what a network's authors deploy, on their own test transform."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

from oodml.backbones import Backbone, load_backbone
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, IdentityHead, frozen_model, parse_model_settings

SMALL = (
    "vit_tiny_patch16_224",  # class token
    "convnext_atto",
    "efficientnet_lite0",
    "resnet18",
    "mobilenetv4_conv_small",  # a layer after pooling
    "eva02_tiny_patch14_224",
    "levit_128s",
    "fastvit_mci0.apple_mclip",  # MobileCLIP with its projection
    "mambaout_femto",  # features after pooling are wider than the map
    "vit_pe_core_tiny_patch16_384.fb",  # attention pooling and projection
)
LARGE = (
    "vit_base_patch16_clip_224.openai",  # projection
    "vit_base_patch16_siglip_224.webli",  # attention pooling
    "vit_small_patch14_reg4_dinov2.lvd142m",  # registers
    "vit_small_patch16_dinov3.lvd1689m",
    "swin_tiny_patch4_window7_224",
    "resnet50_clip.openai",  # attention pooling with projection
    "vit_base_patch16_siglip_224.v2_webli",  # squashed images
)
PROJECTIONS = {
    "fastvit_mci0.apple_mclip": 512,
    "vit_pe_core_tiny_patch16_384.fb": 512,
    "vit_base_patch16_clip_224.openai": 512,
    "resnet50_clip.openai": 1024,
}


def photographs(n: int = 2) -> ImageSet:
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 255, (n * 30, 40, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((400, n * 300), Image.Resampling.BICUBIC))
    names = np.array([f"{row}.png" for row in range(n)])
    return ImageSet("photographs", names, names, pixels=pixels.reshape(n, 300, 400, 3))


def own_output(images: ImageSet, network: nn.Module, projects: bool) -> NDArray[np.float32]:
    """The network's output on its own transform, computed by timm alone."""
    transform = create_transform(**resolve_model_data_config(network))
    batch = torch.stack([transform(images.read(row)) for row in range(len(images))])
    with torch.inference_mode():
        if projects:
            return network(batch).numpy()
        return network.forward_head(network.forward_features(batch), pre_logits=True).numpy()


@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)
def test_embedding_is_the_networks_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs()
    backbone = load_backbone(name, "none")
    monkeypatch.setattr("oodml.embedding.load_backbone", lambda *_, **__: backbone)
    vectors = embed(images, name, weights="none", cache=False).vectors
    expected = own_output(images, backbone.network.eval(), name in PROJECTIONS)
    assert vectors.shape == (2, backbone.width("model"))
    assert vectors.shape[1] == PROJECTIONS.get(name, vectors.shape[1])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(vectors, expected, atol=1e-5 * scale, rtol=1e-5)
    settings = parse_model_settings({"backbone": name, "weights": "none"})
    model = Embedder(settings, IdentityHead(normalize=False), backbone)
    np.testing.assert_allclose(embed(images, model).vectors, vectors, atol=1e-5 * scale)


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load_backbone("vit_tiny_patch16_224", "none").eval()


def test_poolings_of_a_transformer(vit: Backbone) -> None:
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        tokens = vit.network.forward_features((images - vit.mean) / vit.std).double()
        pooled = vit.pooled(images, vit.poolings)
    patches = tokens[:, 1:]
    expected = {
        "model": tokens[:, 0],
        "cls": tokens[:, 0],
        "avg": patches.mean(1),
        "max": patches.amax(1),
        "avg+max": patches.mean(1) + patches.amax(1),
        "cls+avg": torch.cat([tokens[:, 0], patches.mean(1)], 1),
        "gem": (patches.clamp(min=1e-6) ** 3).mean(1) ** (1 / 3),
    }
    assert set(vit.poolings) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(pooled[name].double(), value, rtol=1e-4, atol=1e-4)
        assert vit.width(name) == value.shape[1]


def test_a_transformer_accepts_other_sizes(vit: Backbone) -> None:
    assert vit(torch.rand(1, 3, 160, 160)).shape == (1, 192, 1, 100)
    with pytest.raises(OodmlError) as caught:
        vit(torch.rand(1, 3, 100, 100))
    assert caught.value.location == "image_size"


def test_a_missing_pooling_is_refused() -> None:
    with pytest.raises(OodmlError) as caught:
        embed(photographs(), "resnet18", weights="none", pooling="cls", cache=False)
    assert caught.value.given == "cls"
    assert "gem" in caught.value.allowed


def test_all_poolings_are_cached_by_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path))
    load = functools.partial(embed, photographs(), "resnet18", weights="none", image_size=64)
    load(pooling="gem")
    monkeypatch.setattr("oodml.embedding.load_backbone", None)
    parts = {name: load(pooling=name).vectors for name in ("model", "avg", "max", "avg+max")}
    np.testing.assert_allclose(parts["model"], parts["avg"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts["avg+max"], parts["avg"] + parts["max"])


def test_backbones_of_the_package_pool_by_the_mean() -> None:
    images = photographs()
    first = embed(images, "pixels", cache=False)
    second = embed(images, "pixels", pooling="avg", augmentation="base", cache=False)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert first.source == second.source
    np.testing.assert_array_equal(
        embed(images, frozen_model("pixels", normalize=False)).vectors, first.vectors
    )
