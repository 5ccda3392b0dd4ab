"""Models, weights, and cached features of other people: right, or refused with a location."""

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import oodml
from oodml.backbones import load_backbone
from oodml.cli import app
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.export import load_exported
from oodml.images.image_set import ImageSet
from oodml.model import Embedder, FinetuneSettings, LinearHead, frozen_model
from tests.images.samples import squares, write_folder

FUZZ = settings(deadline=None, max_examples=50)


def renamed(images: ImageSet, ids: list[str]) -> ImageSet:
    return ImageSet(images.name, np.array(ids), images.classes, pixels=images.pixels)


class TestFeatureCache:
    @pytest.fixture(autouse=True)
    def _empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("oodml.files._unwritable", set())

    @pytest.mark.parametrize("separator", ["\n", "\r", '"', "\u2028", ","])
    def test_any_id_is_read_back(self, separator: str) -> None:
        images = squares()
        ids = [f"{row}{separator}x" for row in range(len(images))]
        images = renamed(images, ids)
        first, second = embed(images, "pixels"), embed(images, "pixels")
        np.testing.assert_array_equal(first.vectors, second.vectors)
        assert second.ids.tolist() == images.ids.tolist()

    def test_features_of_other_ids_are_computed_again(self, tmp_path: Path) -> None:
        images = squares()
        expected = embed(images, "pixels").vectors
        other = renamed(images, [f"other-{name}" for name in images.ids.tolist()])
        np.testing.assert_array_equal(embed(other, "pixels").vectors, expected)

    def test_a_cache_that_cannot_be_written_is_logged_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("OODML_CACHE", str(tmp_path / "file"))
        images = squares()
        with caplog.at_level(logging.WARNING, "oodml"):
            first, second = embed(images, "pixels"), embed(images, "pixels")
        np.testing.assert_array_equal(first.vectors, second.vectors)
        assert [record for record in caplog.records if "OODML_CACHE" in record.getMessage()]


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("pooling", "mean", "avg"),
        ("image_size", 0, ""),
        ("image_size", -5, ""),
        ("batch_size", 0, ""),
        ("augmentation", "strong", "base"),
        ("device", "gpu", "cpu"),
        ("device", "cuda:99", "cpu"),
        ("backbone", "resnet5O", "resnet50"),
    ],
)
def test_wrong_arguments_are_refused_before_computing(
    option: str, value: object, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodml.embedding.load_backbone", None)
    images = squares()
    with pytest.raises(OodmlError) as caught:
        embed(images, **{"backbone": "pixels", option: value})  # type: ignore[arg-type]
    assert caught.value.given == value
    assert not allowed or allowed in caught.value.allowed


def test_a_network_of_another_input_size_says_which() -> None:
    vit = load_backbone("vit_tiny_patch16_224", "none")
    with pytest.raises(OodmlError) as caught:
        vit(torch.rand(1, 3, 60, 60))
    assert (caught.value.given, caught.value.allowed) == (60, ("224",))


def test_a_hub_failure_is_one_line_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def fail(name: str, **_: object) -> None:
        calls.append(name)
        raise ConnectionError("\n\nno route to the hub\nRetrying in 8s\nTraceback …")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr("oodml.backbones._libraries._failures", {})
    for _ in range(2):
        with pytest.raises(OodmlError, match="no route to the hub") as caught:
            load_backbone("resnet18")
        assert "\n" not in str(caught.value)
        assert caught.value.given == "resnet18"
    assert calls == ["resnet18"]


def test_an_output_never_overwrites_an_input(tmp_path: Path) -> None:
    write_folder(squares(), tmp_path / "photos")
    run = tmp_path / "run"
    settings = FinetuneSettings(backbone="small", image_size=16, dim=8)
    Embedder(settings, LinearHead(96, 8), load_backbone("small")).save(run)
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    for command in (
        ["export", str(run), "--out", str(run / "model.safetensors")],
        ["embed", "--data", str(tmp_path / "photos"), "--model", str(run), "--out",
         str(run / "model.safetensors")],
    ):  # fmt: skip
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, OodmlError), command
        assert "model.safetensors" in result.exception.location
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_weights_are_given_to_embed_and_export_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {k: torch.randn_like(v) for k, v in load_backbone("small").network.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    write_folder(squares(), tmp_path / "photos")
    weights = ["--weights", str(tmp_path / "w.pth")]
    data = ["--data", str(tmp_path / "photos"), "--model", "small"]
    runner = CliRunner()
    for command in (
        ["embed", *data, *weights, "--out", str(tmp_path / "v.npz")],
        ["export", "small", *weights, "--out", str(tmp_path / "m.safetensors")],
    ):
        result = runner.invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    images = open_images(tmp_path / "photos")
    expected = oodml.VectorSet.load(tmp_path / "v.npz").vectors
    exported = embed(images, load_exported(tmp_path / "m.safetensors"), device="cpu").vectors
    np.testing.assert_allclose(exported, expected, atol=1e-5)
    result = runner.invoke(app, ["embed", *data, "--weights", "nothing.pth", "--out",
                                 str(tmp_path / "x.npz")])  # fmt: skip
    assert isinstance(result.exception, OodmlError)
    assert not (tmp_path / "x.npz").exists()
    with pytest.raises(OodmlError) as caught:
        embed(images, "small", weights=str(tmp_path), device="cpu")
    assert caught.value.location == str(tmp_path)


@FUZZ
@given(
    change=st.dictionaries(
        st.sampled_from(["settings", "head"]),
        st.none() | st.text() | st.integers()
        | st.dictionaries(st.text(), st.integers(), min_size=1)
        | st.fixed_dictionaries({"kind": st.text(), "backbone": st.text()}),
        min_size=1,
    )
)  # fmt: skip
def test_a_changed_description_of_a_model_is_refused(change: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        frozen_model("pixels", normalize=True).save(Path(folder))
        file = Path(folder) / "model.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        with pytest.raises(OodmlError) as caught:
            oodml.load_model(folder)
        assert folder in caught.value.location


@FUZZ
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".safetensors", ".pth"]))
def test_any_bytes_as_weights_are_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"w{suffix}"
        file.write_bytes(content)
        with pytest.raises(OodmlError) as caught:
            load_backbone("small", str(file))
        assert caught.value.location == str(file)
