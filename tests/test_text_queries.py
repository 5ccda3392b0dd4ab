"""Text as a query: equal to the library's own text tower, and to a naive loop."""

import json
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import oodml
from oodml.backbones import Backbone
from oodml.cli import app
from oodml.errors import OodmlError
from oodml.text_queries import class_prompts, embed_texts, evaluate_prompts, names_known
from oodml.vectors import VectorSet
from tests.images.samples import squares, write_folder

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A random model of open_clip in a local folder."""
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    folder = tmp_path / "clip"
    folder.mkdir()
    config = {"model_cfg": CLIP, "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.3] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model_and_transforms(f"local-dir:{folder}", load_weights=False)[0]
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return f"open_clip:{folder}"


def colors(folder: Path) -> Path:
    return write_folder(squares(classes=8, each=6), folder / "photos")


def test_texts_equal_the_librarys_own(clip: str) -> None:
    import open_clip

    location = clip.replace("open_clip:", "local-dir:")
    model = open_clip.create_model_and_transforms(location)[0].eval()
    texts = ["a red square", "two dogs"]
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer(location)(texts)).numpy()
    np.testing.assert_allclose(embed_texts(texts, clip), expected, rtol=1e-5, atol=1e-6)


def test_texts_equal_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    letters = [*string.ascii_lowercase, "."]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
    (tmp_path / "vocab.json").write_text(json.dumps({name: at for at, name in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    files = str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    tokenizer = transformers.CLIPTokenizer(*files, model_max_length=16)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = size | {"vocab_size": len(tokens), "max_position_embeddings": 16, "eos_token_id": 1}
    vision = size | {"image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    model = transformers.CLIPModel(config).eval()
    crop = {"height": 32, "width": 32}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=crop)
    for part in (model, tokenizer, processor):
        part.save_pretrained(tmp_path / "model")
    texts = ["a red cat", "dog"]
    with torch.inference_mode():
        output = model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt"))
    expected = output if isinstance(output, torch.Tensor) else output.pooler_output
    vectors = embed_texts(texts, f"transformers:{tmp_path / 'model'}")
    np.testing.assert_allclose(vectors, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_names_become_prompts() -> None:
    prompts = class_prompts(["136.Barn_Swallow", "birds/robin", "7"], "{}")
    assert prompts == ["Barn Swallow", "robin", "7"]


def test_accuracy_with_known_names_equals_a_loop() -> None:
    random = np.random.default_rng(0)
    names = ["a", "b", "c"]
    texts = dict(zip(class_prompts(names), torch.tensor(random.normal(size=(3, 4))), strict=True))
    network = Backbone(
        nn.Identity(), 4, 8, encode_text=lambda given: torch.stack([texts[t] for t in given])
    )
    classes = np.array(names * 20)
    means = np.stack([texts[text].numpy() for text in class_prompts(classes.tolist())])
    vectors = (means + random.normal(size=means.shape)).astype(np.float32)
    test = VectorSet(vectors, classes, np.arange(60).astype(str))
    correct = 0
    for vector, own in zip(vectors, classes, strict=True):
        cosines = [vector @ text.numpy() / np.linalg.norm(text) for text in texts.values()]
        correct += names[int(np.argmax(cosines))] == own
    assert 0.4 < names_known(test, network) < 1
    assert names_known(test, network) == correct / 60


def test_images_are_retrieved_by_text(clip: str, tmp_path: Path) -> None:
    photos, file = colors(tmp_path), tmp_path / "prompts.csv"
    images = oodml.open_images(str(photos))
    rows = [(f"{text} {name}", name) for name in images.class_names for text in ("a", "my")]
    pd.DataFrame(rows, columns=["text", "class"]).to_csv(file, index=False)
    result = evaluate_prompts(str(photos), clip, file, ks=(1,))
    vectors = oodml.embed(images, clip)
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    first = (embed_texts([text for text, _ in rows], clip) @ unit.T).argmax(1)
    expected = np.mean(
        [vectors.classes[at] == name for at, (_, name) in zip(first, rows, strict=True)]
    )
    assert result.metrics["recall@1"] == pytest.approx(expected)
    low, high = result.intervals["recall@1"]
    assert 0 <= low <= expected <= high <= 1
    command = ["evaluate", str(photos), "--model", clip, "--prompts", str(file), "--json"]
    printed = json.loads(CliRunner().invoke(app, command).stdout)
    assert printed["metrics"]["recall@1"] == pytest.approx(expected)


def test_a_study_measures_known_names(clip: str, tmp_path: Path) -> None:
    photos = colors(tmp_path)
    study = oodml.Study(
        str(photos), methods=["frozen"], model={"backbone": clip}, seeds=[0],
        splits={"n_splits": 2, "backbone": "pixels", "validation": 0.0},
    )  # fmt: skip
    study.run(tmp_path / "results")
    table = pd.read_parquet(tmp_path / "results" / "results.parquet")
    value = table[(table["metric"] == "names_known") & (table["stage"] == "zero_shot")]
    assert len(value) == 2
    assert value["value"].between(0, 1).all()


def test_refusals_name_the_cause(tmp_path: Path) -> None:
    with pytest.raises(OodmlError) as caught:
        embed_texts(["a"], "pixels")
    assert caught.value.given == "pixels"
    photos, file = colors(tmp_path), tmp_path / "prompts.csv"
    for text, given in (
        ("text\na\n", ["text"]),
        ("text,class\na,\n", 2),
        ("text,class\na,no\n", "no"),
    ):
        file.write_text(text)
        with pytest.raises(OodmlError) as caught:
            evaluate_prompts(str(photos), "pixels", file)
        assert caught.value.location == str(file)
        assert caught.value.given == given
