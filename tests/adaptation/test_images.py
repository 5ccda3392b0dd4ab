from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import oodml
from oodml.adaptation import AdaptSettings
from oodml.adaptation.images import adapt_model
from oodml.backbones import load_backbone
from oodml.cli import app
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, HeadSettings, LinearHead

FAST = AdaptSettings(iterations=30, lr=1e-2, views=2, batch_size=12, metrics=("recall@1",))


@pytest.fixture(scope="module")
def model() -> Embedder:
    settings = HeadSettings(backbone="small", weights="none", image_size=16, dim=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = load_backbone("small", "none")
        embedder = Embedder(settings, LinearHead(backbone.features, 8), backbone)
    return embedder.eval()


def stripes(count: int, first: int, noise: float = 40.0) -> ImageSet:
    """Four classes of stripes of different width, `count` noisy images of each."""
    random = np.random.default_rng(first)
    classes = np.repeat(["a", "b", "c", "d"], count)
    widths = {"a": 1, "b": 2, "c": 4, "d": 8}
    columns = np.arange(16)
    clean = np.stack([np.tile(columns // widths[name] % 2 * 160.0, (16, 1)) for name in classes])
    pixels = np.clip(clean + random.normal(0, noise, clean.shape), 0, 255).astype(np.uint8)
    ids = np.array([f"{name}/{first + row}.png" for row, name in enumerate(classes)])
    return ImageSet("stripes", ids, classes, pixels=pixels)


def test_the_adapted_model_reproduces_the_result(model: Embedder) -> None:
    support, query = stripes(4, 0), stripes(6, 100)
    weight = model.head.linear.weight.clone()
    adapted, result = adapt_model(model, support, query, FAST, device="cpu")
    assert torch.equal(model.head.linear.weight, weight)
    assert set(result.after[0]) == {"recall@1", "accuracy"}
    for which, stage in ((model, result.before), (adapted, result.after)):
        vectors = embed(query, which, device="cpu").vectors
        outcome = oodml.retrieval_metrics(vectors, query.classes, ks=(1,))["recall@1"]
        assert stage[0]["recall@1"] == pytest.approx(outcome)


def test_folders_without_a_common_class_are_refused(model: Embedder) -> None:
    query = stripes(3, 0)
    other = ImageSet("other", query.ids, np.char.add(query.classes, "!"), pixels=query.pixels)
    with pytest.raises(OodmlError, match="a!"):
        adapt_model(model, stripes(3, 0), other, FAST, device="cpu")


def test_all_layers_can_be_adapted(model: Embedder, tmp_path: Path) -> None:
    support, query = stripes(4, 0), stripes(6, 100)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    every = FAST.model_copy(update={"layers": "all", "lr": 1e-3})
    adapted, result = adapt_model(model, support, query, every, device="cpu")
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    moved = adapted.state_dict()
    assert any(not torch.equal(moved[key], before[key]) for key in before if "backbone" in key)
    adapted.save(tmp_path)
    vectors = embed(query, oodml.load_model(tmp_path), device="cpu").vectors
    outcome = oodml.retrieval_metrics(vectors, query.classes, ks=(1,))["recall@1"]
    assert result.after[0]["recall@1"] == pytest.approx(outcome)
    baseline = every.model_copy(update={"objective": "prototypes"})
    with pytest.raises(OodmlError, match="prototypes"):
        adapt_model(model, support, query, baseline, device="cpu")


def test_zero_steps_change_nothing(model: Embedder, tmp_path: Path) -> None:
    """Both models read the same pixels, though a fine-tuned one would use the pixel cache."""
    random = np.random.default_rng(0)
    for part in ("support", "query"):
        for name in "abcd":
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(3):
                pixels = random.integers(0, 256, (90, 100, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{index}.png")
    support, query = (open_images(tmp_path / part) for part in ("support", "query"))
    still = AdaptSettings(iterations=0, layers="all")
    adapted, result = adapt_model(model, support, query, still, device="cpu")
    assert result.before == result.after
    before, after = (embed(query, which, device="cpu").vectors for which in (model, adapted))
    np.testing.assert_allclose(before, after, atol=1e-6)


def write(images: ImageSet, root: Path) -> Path:
    for row, name in enumerate(images.ids):
        (root / str(name)).parent.mkdir(parents=True, exist_ok=True)
        images.read(row).save(root / str(name))
    return root


def test_the_command_prints_before_and_after_and_saves(model: Embedder, tmp_path: Path) -> None:
    model.save(tmp_path / "run")
    folders = [
        "--support", str(write(stripes(3, 0), tmp_path / "support")),
        "--queries", str(write(stripes(3, 50), tmp_path / "query")),
    ]  # fmt: skip
    options = ["adapt", "--model", str(tmp_path / "run"), *folders, "--device", "cpu"]
    fast = ["--iterations", "5", "--views", "1", "--out", str(tmp_path / "adapted")]
    shown = CliRunner().invoke(app, [*options, *fast])
    assert shown.exit_code == 0, shown.output
    assert "recall@1" in shown.output
    assert isinstance(oodml.load_model(tmp_path / "adapted").head, LinearHead)
    wrong = CliRunner().invoke(app, [*options, "--objective", "marign"])
    assert isinstance(wrong.exception, OodmlError)
    assert "--objective 'marign'" in str(wrong.exception)
