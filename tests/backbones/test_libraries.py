"""Networks of other libraries equal these libraries' own output; skipped where one is missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from oodml.backbones import is_user_code, load_backbone
from oodml.embedding import embed
from oodml.errors import OodmlError
from tests.backbones.test_deployed import photographs

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


def close(given: np.ndarray, expected: np.ndarray) -> None:
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_open_clip(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    config = {"model_cfg": CLIP, "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.3] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    created = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}", load_weights=False)[0]
    state = {key: value.contiguous() for key, value in created.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    images = photographs()
    batch = torch.stack([preprocess(images.read(row)) for row in range(2)])
    with torch.inference_mode():
        expected = model.eval().encode_image(batch).numpy()
    close(embed(images, f"open_clip:{tmp_path}", cache=False).vectors, expected)


def save_transformers(folder: Path, kind: str) -> object:
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
    size |= {"intermediate_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    if kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**size))
        processor = transformers.BitImageProcessor(
            size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
        )
    else:
        text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"intermediate_size": 32, "vocab_size": 64, "max_position_embeddings": 8}
        config = transformers.CLIPConfig(vision_config=size, text_config=text, projection_dim=16)
        model = transformers.CLIPModel(config)
        processor = transformers.CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_transformers(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = save_transformers(tmp_path, kind)
    images = photographs()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    pictures = [images.read(row) for row in range(2)]
    inputs = processor(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        if kind == "clip":
            vision = model.vision_model(**inputs).pooler_output  # type: ignore[attr-defined]
            expected = model.visual_projection(vision)  # type: ignore[attr-defined]
        else:
            expected = model(**inputs).last_hidden_state[:, 0]  # type: ignore[operator]
    close(embed(images, f"transformers:{tmp_path}", cache=False).vectors, expected.numpy())


@pytest.mark.slow  # its import takes long
def test_sentence_transformers(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    save_transformers(tmp_path / "network", "dinov2")
    model = library.SentenceTransformer(str(tmp_path / "network"), device="cpu")
    model.save(str(tmp_path / "model"))
    images = photographs()
    expected = model.encode([images.read(row) for row in range(2)])
    name = f"sentence-transformers:{tmp_path / 'model'}"
    close(embed(images, name, cache=False).vectors, expected)
    close(embed(images, model).vectors, expected)


def test_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    from torchvision.models import ResNet18_Weights

    backbone = load_backbone("torchvision:resnet18/IMAGENET1K_V1", "none").eval()
    images = photographs()
    vectors = embed(images, "torchvision:resnet18", weights="none", cache=False).vectors
    preprocess = ResNet18_Weights.IMAGENET1K_V1.transforms()
    batch = torch.stack([preprocess(images.read(row)) for row in range(2)])
    with torch.inference_mode():
        network = load_backbone("torchvision:resnet18", "none").network.eval()
        close(vectors, network(batch).numpy())
    assert backbone.dim == 512


def test_names_of_libraries_are_not_import_paths() -> None:
    assert not is_user_code("open_clip:RN50")
    assert is_user_code("mylab.nets:net")


def test_failures_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    for name in ("torchvision:resnet5O", "torchvision:resnet18/NO_SUCH_WEIGHTS"):
        with pytest.raises(OodmlError) as caught:
            load_backbone(name)
        assert "\n" not in str(caught.value)
        assert caught.value.given == name


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(OodmlError) as caught:
        load_backbone("open_clip:RN50/openai")
    assert "oodml[open_clip]" in str(caught.value)
