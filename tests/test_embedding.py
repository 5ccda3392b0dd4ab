import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodml.backbones import load_backbone
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.files import cache_folder
from oodml.model import Embedder, FinetuneSettings, LinearHead
from tests.images.samples import squares, write_folder


def features_on_disk() -> list[Path]:
    return sorted((cache_folder() / "features").glob("*"))


def small_model() -> Embedder:
    return Embedder(FinetuneSettings(backbone="small"), LinearHead(96, 8), load_backbone("small"))


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))


def test_features_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = squares()
    first = embed(images, "pixels")
    assert first.vectors.shape == (48, 768)
    assert len(features_on_disk()) == 1
    monkeypatch.setattr("oodml.embedding.load_backbone", None)
    again = embed(images, "pixels")
    np.testing.assert_array_equal(first.vectors, again.vectors)
    maximum = embed(images, "pixels", pooling="max")
    both = embed(images, "pixels", pooling="avg+max")
    np.testing.assert_allclose(both.vectors, first.vectors + maximum.vectors)


def test_pixels_are_the_image() -> None:
    images = squares(side=16)
    vectors = embed(images, "pixels", image_size=16, augmentation="gentle").vectors
    assert images.pixels is not None
    expected = (images.pixels.reshape(48, -1) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(vectors.reshape(48, 3, -1)[:, 0], expected, atol=1e-6)


def test_the_cache_does_not_depend_on_the_order_of_images() -> None:
    images = squares()
    order = np.random.default_rng(0).permutation(len(images))
    first = embed(images, "pixels", view=1, augmentation="adv")
    shuffled = embed(images.select(order), "pixels", view=1, augmentation="adv")
    assert len(features_on_disk()) == 1
    np.testing.assert_array_equal(first.vectors[order], shuffled.vectors)
    assert shuffled.ids.tolist() == images.ids[order].tolist()


def test_settings_that_change_the_vectors_change_the_cache_key() -> None:
    images = squares()
    variants: list[dict[str, object]] = [
        {},
        {"view": 0},
        {"view": 1},
        {"view": 1, "seed": 1},
        {"image_size": 32},
        {"augmentation": "gentle"},
    ]
    vectors = [embed(images, "pixels", **options).vectors for options in variants]
    assert len(features_on_disk()) == len(variants)
    for a in range(len(vectors)):
        for b in range(a):
            assert (vectors[a] != vectors[b]).any(), (variants[a], variants[b])
    embed(squares(seed=1), "pixels")
    assert len(features_on_disk()) == len(variants) + 1


def test_batches_do_not_change_vectors() -> None:
    images = squares()
    one = embed(images, "small", weights="none", batch_size=48, cache=False)
    model = small_model()
    big = embed(images, model, batch_size=48).vectors
    little = embed(images, model, batch_size=7).vectors
    np.testing.assert_allclose(big, little, atol=1e-5)
    assert one.vectors.shape == (48, 96)
    assert np.allclose(np.linalg.norm(big, axis=1), 1, atol=1e-5)
    assert model.training


def test_a_damaged_cache_file_is_recomputed() -> None:
    images = squares()
    first = embed(images, "pixels")
    (path,) = features_on_disk()
    path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(embed(images, "pixels").vectors, first.vectors)


def test_files_with_other_pixels_are_embedded_again(tmp_path: Path) -> None:
    """Their names, sizes, and modification times are the same."""
    write_folder(squares(side=16), tmp_path / "data")
    files = sorted((tmp_path / "data").rglob("*.png"))
    for shade in (0, 255):
        for file in files:
            Image.new("RGB", (16, 16), (shade,) * 3).save(file.with_suffix(".bmp"))
            os.utime(file.with_suffix(".bmp"), (1e9, 1e9))
            file.unlink(missing_ok=True)
        vectors = embed(open_images(tmp_path / "data"), "pixels").vectors
        np.testing.assert_allclose(vectors, 2 * shade / 255 - 1, atol=1e-6)


def test_folder_and_memory_agree(tmp_path: Path) -> None:
    images = squares()
    disk = open_images(write_folder(images, tmp_path / "root"))
    order = np.argsort([int(os.path.basename(name)[:3]) for name in disk.ids])
    np.testing.assert_array_equal(
        embed(disk, "pixels").vectors[order], embed(images, "pixels").vectors
    )


def test_images_may_be_bytes_or_floats() -> None:
    model = small_model().eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(model(images), model(images.float() / 255))


def test_an_edited_user_backbone_embeds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache key contains the source of a user's backbone."""
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_pixels_of_a_test.py"
    file.write_text("from oodml.backbones.pixels import backbone as net\n")
    name = "own_pixels_of_a_test:net"
    first = embed(squares(), name)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1
    assert embed(squares(), name).source == first.source
    file.write_text(file.read_text() + "# edited\n")
    assert embed(squares(), name).source != first.source
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2
