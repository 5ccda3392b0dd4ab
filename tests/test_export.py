import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import oodml
from oodml.backbones import load_backbone
from oodml.cli import app
from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.export import (
    export_onnx,
    export_safetensors,
    load_exported,
    load_for_export,
    model_metadata,
)
from oodml.images.image_set import ImageSet
from oodml.methods.diva import Head as DivaHead
from oodml.model import Embedder, FinetuneSettings, LinearHead, parse_model_settings
from tests.images.samples import squares, write_folder

RUN = {"id": "4f0c", "data": "glyphs", "fingerprint": "f00", "split": "R2", "method": "margin"}


def saved(folder: Path, backbone: str, size: int, head: torch.nn.Module, mode: str = "head") -> str:
    """The folder of a run, as a study writes it."""
    values = {"backbone": backbone, "mode": mode, "dim": 8, "image_size": size}
    network = load_backbone(backbone) if mode == "finetune" else None
    Embedder(parse_model_settings(values), head, network).save(folder)
    (folder / "run.json").write_text(json.dumps(RUN | {"seed": 3}))
    return str(folder)


CASES: dict[str, Callable[[Path], str]] = {
    "a run of the small network": lambda f: saved(f, "small", 24, LinearHead(96, 8), "finetune"),
    "a head on pixels": lambda f: saved(f, "pixels", 24, DivaHead(768, 8, (1, 2, 1, 0.5))),
    "a plain backbone": lambda f: "small",
}


@pytest.mark.parametrize("case", CASES)
def test_safetensors_contain_the_whole_network(case: str, tmp_path: Path) -> None:
    model, metadata = load_for_export(CASES[case](tmp_path / "run"))
    export_safetensors(model, tmp_path / "model.safetensors", metadata)
    again = load_exported(tmp_path / "model.safetensors")
    images = squares()
    vectors, expected = oodml.embed(images, again), oodml.embed(images, model)
    np.testing.assert_allclose(vectors.vectors, expected.vectors, atol=1e-6)
    assert not again.training


def test_safetensors_need_nothing_else(tmp_path: Path) -> None:
    """Weights and means of lite0 are read from the file, not from its package."""
    model, metadata = load_for_export(saved(tmp_path / "run", "lite0", 32, LinearHead(1280, 8)))
    model.require_backbone().mean += 0.1
    with torch.no_grad():
        next(model.require_backbone().parameters()).mul_(2)
    export_safetensors(model, tmp_path / "model.safetensors", metadata)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(load_exported(tmp_path / "model.safetensors")(images), expected)


def test_an_exported_backbone_embeds_like_embed(tmp_path: Path) -> None:
    model, metadata = load_for_export("pixels")
    export_safetensors(model, tmp_path / "pixels.safetensors", metadata)
    images = squares()
    vectors = oodml.embed(images, load_exported(tmp_path / "pixels.safetensors"))
    np.testing.assert_allclose(vectors.vectors, oodml.embed(images, "pixels").vectors, atol=1e-6)


def test_metadata_describe_the_model(tmp_path: Path) -> None:
    _, metadata = load_for_export(CASES["a head on pixels"](tmp_path / "run"))
    wanted = {"backbone": "pixels", "dim": "8", "image_size": "24", "run": "4f0c", "split": "R2"}
    assert wanted.items() <= metadata.items()
    assert {"data": "glyphs", "method": "margin", "seed": "3"}.items() <= metadata.items()
    assert metadata["oodml"] == oodml.__version__
    assert metadata["test_transform"] == (
        "base: shorter side resized to 27, bilinear; then center 24×24"
    )


@pytest.mark.parametrize(("augmentation", "cached"), [("base", 33), ("big", 37), ("gentle", 27)])
def test_metadata_describe_the_pixel_cache(augmentation: str, cached: int, tmp_path: Path) -> None:
    settings = FinetuneSettings(backbone="small", dim=8, image_size=24, augmentation=augmentation)
    metadata = model_metadata(Embedder(settings, LinearHead(96, 8), load_backbone("small")), {})
    first = f"{augmentation}: shorter side resized to {cached} if larger; then "
    assert metadata["test_transform"].startswith(first)
    off = settings.model_copy(update={"input_cache": "off"})
    assert (
        "if larger"
        not in model_metadata(Embedder(off, LinearHead(96, 8), load_backbone("small")), {})[
            "test_transform"
        ]
    )


def test_exported_models_read_files_like_the_original(tmp_path: Path) -> None:
    """Head-mode models and backbones read the original files."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3)).astype(np.uint8)
    classes = np.array(list("aabb"))
    images = ImageSet("noise", np.array(list("0123")), classes, pixels=noise)
    on_disk = open_images(write_folder(images, tmp_path / "noise"))
    for name in (CASES["a head on pixels"](tmp_path / "run"), "pixels"):
        model, metadata = load_for_export(name)
        export_safetensors(model, tmp_path / "model.safetensors", metadata)
        vectors = oodml.embed(on_disk, load_exported(tmp_path / "model.safetensors"))
        np.testing.assert_allclose(vectors.vectors, oodml.embed(on_disk, model).vectors, atol=1e-6)
        assert "if larger" not in metadata["test_transform"]
    np.testing.assert_allclose(vectors.vectors, oodml.embed(on_disk, "pixels").vectors, atol=1e-6)


def test_missing_and_damaged_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="nothing"):
        load_for_export(tmp_path / "nothing")
    with pytest.raises(OodmlError, match="smal"):
        load_for_export("smal")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(OodmlError, match="torn.safetensors"):
        load_exported(tmp_path / "torn.safetensors")
    saved(tmp_path / "run", "small", 24, LinearHead(96, 8), "finetune")
    with pytest.raises(OodmlError, match="model.safetensors"):
        load_exported(tmp_path / "run" / "model.safetensors")
    result = CliRunner().invoke(app, ["export", "small", "--out", str(tmp_path / "m")])
    assert isinstance(result.exception, OodmlError)
    assert ".onnx" in result.exception.allowed


def test_user_code_is_imported_only_if_trusted(tmp_path: Path) -> None:
    own = "oodml.backbones.small:backbone"
    run = saved(tmp_path / "run", own, 24, LinearHead(96, 8), "finetune")
    with pytest.raises(OodmlError, match="trust_code=True"):
        load_for_export(run)
    model, metadata = load_for_export(run, trust_code=True)
    export_safetensors(model, tmp_path / "m.safetensors", metadata)
    with pytest.raises(OodmlError, match="trust_code=True"):
        load_exported(tmp_path / "m.safetensors")
    assert load_exported(tmp_path / "m.safetensors", trust_code=True).settings.backbone == own


class TestOnnx:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(name, reason="pip install 'oodml[onnx]'")

    @pytest.mark.parametrize("case", CASES)
    def test_onnxruntime_embeds_the_same(self, case: str, tmp_path: Path) -> None:
        run = CASES[case](tmp_path / "run")
        for suffix in (".safetensors", ".onnx"):
            command = ["export", run, "--out", str(tmp_path / f"my.model{suffix}")]
            result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert (tmp_path / "my.model.safetensors").exists()
        assert "onnxruntime differs by" in " ".join(result.output.split())
        check_onnx(tmp_path / "my.model.onnx", load_exported(tmp_path / "my.model.safetensors"))

    @pytest.mark.slow
    def test_lite0(self, tmp_path: Path) -> None:
        head = DivaHead(1280, 8, (1, 1, 1, 1))
        model, metadata = load_for_export(saved(tmp_path / "run", "lite0", 64, head))
        assert export_onnx(model, tmp_path / "model.onnx", metadata) < 1e-4
        check_onnx(tmp_path / "model.onnx", model)

    def test_a_file_that_differs_is_deleted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, metadata = load_for_export("small")
        monkeypatch.setattr("oodml.export.TOLERANCE", 0.0)
        with pytest.raises(OodmlError, match="onnxruntime"):
            export_onnx(model, tmp_path / "model.onnx", metadata)
        assert list(tmp_path.iterdir()) == []


def check_onnx(file: Path, model: Embedder) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, made.name) == ("images", "embedding")
    assert given.shape[1:] == [3, model.image_size, model.image_size]
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["backbone"] == model.settings.backbone
    assert metadata["dim"] == str(made.shape[1])
    for n in (1, 3):
        images = torch.rand(n, *given.shape[1:], generator=torch.Generator().manual_seed(n))
        with torch.inference_mode():
            expected = model(images).numpy()
        (output,) = session.run(["embedding"], {"images": images.numpy()})
        np.testing.assert_allclose(output, expected, atol=1e-4)


def test_without_the_extra_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model, metadata = load_for_export("small")
    with pytest.raises(OodmlError, match="pip install 'onnx"):
        export_onnx(model, tmp_path / "model.onnx", metadata)
