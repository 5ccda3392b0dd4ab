import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import oodml
from oodml.cli import app
from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.export import (
    description,
    export_onnx,
    export_safetensors,
    exportable,
    load_exported,
)
from oodml.images.image_set import ImageSet
from oodml.methods.diva import Head as DivaHead
from oodml.model import Embedder, LinearHead, ModelSettings
from tests.images.samples import squares, write_folder

RUN = {"id": "4f0c", "data": "glyphs", "fingerprint": "f00", "split": "R2", "method": "margin"}


def saved(folder: Path, backbone: str, size: int, head: torch.nn.Module, mode: str = "head") -> str:
    """A run's folder, as a study leaves it."""
    settings = ModelSettings(backbone=backbone, mode=mode, dim=8, image_size=size)
    Embedder(settings, head).save(folder)
    (folder / "run.json").write_text(json.dumps(RUN | {"seed": 3}))
    return str(folder)


CASES: dict[str, Callable[[Path], str]] = {
    "a run of the small network": lambda f: saved(f, "small", 24, LinearHead(96, 8), "finetune"),
    "a head on pixels": lambda f: saved(f, "pixels", 24, DivaHead(768, 8, (1, 2, 1, 0.5))),
    "a plain backbone": lambda f: "small",
}


@pytest.mark.parametrize("case", CASES)
def test_safetensors_hold_the_whole_network(case: str, tmp_path: Path) -> None:
    model, said = exportable(CASES[case](tmp_path / "run"))
    export_safetensors(model, tmp_path / "model.safetensors", said)
    again = load_exported(tmp_path / "model.safetensors")
    images = squares()
    found, expected = oodml.embed(images, again), oodml.embed(images, model)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
    assert not again.training


def test_safetensors_need_nothing_else(tmp_path: Path) -> None:
    """lite0's weights and means are in the file, not those of its package."""
    model, said = exportable(saved(tmp_path / "run", "lite0", 32, LinearHead(1280, 8)))
    model.backbone.mean += 0.1
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(2)
    export_safetensors(model, tmp_path / "model.safetensors", said)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(load_exported(tmp_path / "model.safetensors")(images), expected)


def test_a_plain_backbone_gives_what_embed_gives(tmp_path: Path) -> None:
    model, said = exportable("pixels")
    export_safetensors(model, tmp_path / "pixels.safetensors", said)
    images = squares()
    found = oodml.embed(images, load_exported(tmp_path / "pixels.safetensors"))
    np.testing.assert_allclose(found.vectors, oodml.embed(images, "pixels").vectors, atol=1e-6)


def test_files_say_what_they_hold(tmp_path: Path) -> None:
    _, said = exportable(CASES["a head on pixels"](tmp_path / "run"))
    wanted = {"backbone": "pixels", "dim": "8", "image_size": "24", "run": "4f0c", "split": "R2"}
    assert wanted.items() <= said.items()
    assert {"data": "glyphs", "method": "margin", "seed": "3"}.items() <= said.items()
    assert said["oodml"] == oodml.__version__
    assert said["test_transform"] == (
        "base: the short side resized to 27, bilinear; then the centre 24×24"
    )


@pytest.mark.parametrize(("augmentation", "kept"), [("base", 33), ("big", 37), ("gentle", 27)])
def test_files_say_what_is_done_before_the_test_transform(
    augmentation: str, kept: int, tmp_path: Path
) -> None:
    settings = ModelSettings(
        backbone="small", mode="finetune", dim=8, image_size=24, augmentation=augmentation
    )
    said = description(Embedder(settings, LinearHead(96, 8)), {})
    first = f"{augmentation}: images with a short side above {kept} are brought to {kept}; then the"
    assert said["test_transform"].startswith(first)
    off = settings.model_copy(update={"input_cache": "off"})
    assert "above" not in description(Embedder(off, LinearHead(96, 8)), {})["test_transform"]


def test_exported_models_see_files_as_the_model_did(tmp_path: Path) -> None:
    """A head was trained on the files themselves, and plain features are of them."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3)).astype(np.uint8)
    classes = np.array(list("aabb"))
    images = ImageSet("noise", np.array(list("0123")), classes, pixels=noise)
    on_disk = open_images(write_folder(images, tmp_path / "noise"))
    for name in (CASES["a head on pixels"](tmp_path / "run"), "pixels"):
        model, said = exportable(name)
        export_safetensors(model, tmp_path / "model.safetensors", said)
        found = oodml.embed(on_disk, load_exported(tmp_path / "model.safetensors"))
        np.testing.assert_allclose(found.vectors, oodml.embed(on_disk, model).vectors, atol=1e-6)
        assert "above" not in said["test_transform"]
    np.testing.assert_allclose(found.vectors, oodml.embed(on_disk, "pixels").vectors, atol=1e-6)


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="no such folder of a model"):
        exportable(tmp_path / "nothing")
    with pytest.raises(OodmlError, match="unknown backbone 'smal'"):
        exportable("smal")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(OodmlError, match=r"torn.safetensors: the model cannot be loaded"):
        load_exported(tmp_path / "torn.safetensors")
    saved(tmp_path / "run", "small", 24, LinearHead(96, 8), "finetune")
    with pytest.raises(OodmlError, match="not a model that oodml exported"):
        load_exported(tmp_path / "run" / "model.safetensors")
    result = CliRunner().invoke(app, ["export", "small", "--out", str(tmp_path / "m")])
    assert "say --onnx, --safetensors, or both" in str(result.exception)


def test_a_model_that_names_own_code_is_imported_when_it_is_trusted(tmp_path: Path) -> None:
    own = "oodml.backbones.small:backbone"
    run = saved(tmp_path / "run", own, 24, LinearHead(96, 8), "finetune")
    with pytest.raises(OodmlError, match="trust_code=True"):
        exportable(run)
    model, said = exportable(run, trust_code=True)
    export_safetensors(model, tmp_path / "m.safetensors", said)
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
        command = ["export", run, "--out", str(tmp_path / "my.model"), "--onnx", "--safetensors"]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert (tmp_path / "my.model.safetensors").exists()
        assert "onnxruntime differs from the model by" in " ".join(result.output.split())
        check_onnx(tmp_path / "my.model.onnx", load_exported(tmp_path / "my.model.safetensors"))

    @pytest.mark.slow
    def test_lite0(self, tmp_path: Path) -> None:
        head = DivaHead(1280, 8, (1, 1, 1, 1))
        model, said = exportable(saved(tmp_path / "run", "lite0", 64, head))
        assert export_onnx(model, tmp_path / "model.onnx", said) < 1e-4
        check_onnx(tmp_path / "model.onnx", model)

    def test_a_file_that_differs_is_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, said = exportable("small")
        monkeypatch.setattr("oodml.export.TOLERANCE", 0.0)
        with pytest.raises(OodmlError, match="differ by .* so the file is not kept"):
            export_onnx(model, tmp_path / "model.onnx", said)
        assert list(tmp_path.iterdir()) == []


def check_onnx(file: Path, model: Embedder) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, made.name) == ("images", "embedding")
    assert given.shape[1:] == [3, model.image_size, model.image_size]
    said = session.get_modelmeta().custom_metadata_map
    assert said["backbone"] == model.settings.backbone
    assert said["dim"] == str(made.shape[1])
    for n in (1, 3):
        images = torch.rand(n, *given.shape[1:], generator=torch.Generator().manual_seed(n))
        with torch.inference_mode():
            expected = model(images).numpy()
        (found,) = session.run(["embedding"], {"images": images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model, said = exportable("small")
    with pytest.raises(OodmlError, match=r"pip install 'oodml\[onnx\]'"):
        export_onnx(model, tmp_path / "model.onnx", said)
