import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from oodml.backbones import load_backbone
from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.files import cache_folder
from oodml.images import pixel_cache as module
from oodml.images.fingerprint import check_files
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import (
    ResizedImages,
    fill_pixel_cache,
    list_pixel_caches,
    resized_images,
)
from oodml.images.transforms import RECIPES, batches, recipe, train_views
from oodml.images.transforms import test_views as make_test_views
from oodml.model import Embedder, FinetuneSettings, HeadSettings, LinearHead
from oodml.model_input import input_images, input_short, planned_short
from oodml.randomness import isolated

from .samples import squares, write_folder

FINETUNE = FinetuneSettings(backbone="small", image_size=32)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache that trusts the times of new files."""
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("oodml.images.fingerprint.SETTLE_SECONDS", -1e6)


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    """Two classes of six photographs: the last of each has 30x20 pixels, the others 100x80."""
    random = np.random.default_rng(0)
    for row in range(12):
        coarse = random.integers(0, 256, (8, 10, 3)).astype(np.uint8)
        extent = (30, 20) if row % 6 == 5 else (100, 80)
        folder = tmp_path / "photos" / "ab"[row // 6]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(coarse).resize(extent, Image.Resampling.BICUBIC)
        image.save(folder / f"{row:02d}.{'jpg' if row % 2 else 'png'}")
    return open_images(tmp_path / "photos")


def views(images: ImageSet, name: str, size: int, threads: int = 2) -> np.ndarray:
    """A test and a train view of every image."""
    rows, chosen = np.arange(len(images)), recipe(name)
    made = [make_test_views(images, size, chosen, None), train_views(images, size, chosen, 7)]
    return np.stack([batch.numpy() for batch in batches([(rows, one) for one in made], threads)])


def test_large_images_are_resized_and_small_ones_unchanged(photos: ImageSet) -> None:
    small = resized_images(photos, 40)
    for row in range(12):
        if row % 6 == 5:
            np.testing.assert_array_equal(
                np.asarray(small.input_image(row)), np.asarray(photos.read(row))
            )
        else:
            expected = photos.read(row).resize((50, 40), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(small.input_image(row), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(small.read(0)), np.asarray(photos.read(0)))


def test_subsets_read_the_right_images(photos: ImageSet) -> None:
    small = resized_images(photos, 40)
    part = small.subset(["b"]).select(np.array([4, 1]))
    assert part.ids.tolist() == ["b/10.png", "b/07.jpg"]
    for row, place in enumerate((10, 7)):
        np.testing.assert_array_equal(part.input_image(row), small.input_image(place))


def test_images_are_the_same_without_the_cache(photos: ImageSet) -> None:
    uncached = resized_images(photos, 40, fill_cache=False)
    assert uncached.cache is None
    assert not (cache_folder() / "pixels").exists()
    cached = resized_images(photos, 40)
    for row in range(12):
        np.testing.assert_array_equal(
            np.asarray(uncached.input_image(row)), np.asarray(cached.input_image(row))
        )
    assert resized_images(photos, 40, fill_cache=False).cache is not None


def test_images_are_decoded_once_and_again_after_a_change(
    photos: ImageSet,
) -> None:
    messages: list[str] = []
    resized_images(photos, 40, log=messages.append)
    resized_images(photos, 40, log=messages.append)
    assert len(messages) == 1
    assert "12 images, short side 40, about 0.1 MB" in messages[0]
    other = Image.new("RGB", (100, 80), "red")
    other.save(photos.path(0))
    changed = resized_images(photos, 40, log=messages.append)
    assert len(messages) == 2
    np.testing.assert_array_equal(changed.input_image(0), np.full((40, 50, 3), [255, 0, 0]))
    assert [name for name, _ in list_pixel_caches()] == ["photos: 12 images, short side 40"] * 2


def test_the_cache_does_not_depend_on_names_and_folders(photos: ImageSet, tmp_path: Path) -> None:
    resized_images(photos, 40)
    moved = tmp_path / "moved" / "elsewhere"
    moved.parent.mkdir()
    (tmp_path / "photos").rename(moved)
    resized_images(open_images(moved), 40)
    assert len(list_pixel_caches()) == 1


def test_views_of_small_images_are_exact(tmp_path: Path) -> None:
    images = open_images(write_folder(squares(2, 6), tmp_path / "squares"))
    small = resized_images(images, 24)
    for name in RECIPES:
        np.testing.assert_array_equal(views(small, name, 20), views(images, name, 20))


def test_views_of_red_are_exact(photos: ImageSet) -> None:
    """Its views are cut from images of exactly the cached size."""
    photos = photos.select(np.arange(12) % 6 != 5)
    short = input_short(FINETUNE.model_copy(update={"augmentation": "red"}))
    assert short == 37
    small = resized_images(photos, short)
    np.testing.assert_array_equal(views(small, "red", 32), views(photos, "red", 32))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_views_of_resized_images_are_close_and_do_not_depend_on_threads(
    photos: ImageSet, name: str
) -> None:
    small = resized_images(photos, 60)
    made = views(small, name, 32, threads=1)
    np.testing.assert_array_equal(made, views(small, name, 32, threads=3))
    difference = np.abs(made.astype(int) - views(photos, name, 32).astype(int))
    assert difference.mean() < 3
    assert np.abs(made.astype(int) - made[:, ::-1].astype(int)).mean() > 30  # unlike images


def test_corrupt_images_are_refused_and_named(photos: ImageSet) -> None:
    data = photos.path(3).read_bytes()
    photos.path(3).write_bytes(data[: len(data) // 2])
    with pytest.raises(OodmlError, match=r"03\.jpg"):
        resized_images(photos, 40)


def test_one_decoding_fills_the_cache_and_detects_corrupt_images(
    photos: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos.path(3).read_bytes()
    photos.path(3).write_bytes(data[: len(data) // 2])
    known = fill_pixel_cache(photos, 40)
    monkeypatch.setattr(ImageSet, "read", None)
    problems = check_files(photos).problems
    assert np.flatnonzero(problems != "").tolist() == [3]
    assert problems.tolist() == known.problems.tolist()
    rest = resized_images(photos.select(photos.ids != "a/03.jpg"), 40)
    assert rest.cache is not None
    assert rest.input_image(3).shape == (40, 50, 3)


def test_a_disk_without_space_is_refused_in_advance(
    photos: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OodmlError, match="input_cache"):
        resized_images(photos, 40)
    left = [file for file in (cache_folder() / "pixels").iterdir() if file.suffix != ".lock"]
    assert left == []


def test_concurrent_calls_fill_the_cache_once(
    photos: ImageSet,
) -> None:
    """The lock works between processes as it does between open files here."""
    messages: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(resized_images, photos, 40, log=messages.append) for _ in range(4)]
        results = [job.result().input_image(0) for job in jobs]
    assert len(messages) == len(list_pixel_caches()) == 1
    for pixels in results:
        np.testing.assert_array_equal(pixels, results[0])


def test_values_of_input_cache(photos: ImageSet) -> None:
    def short(**changes: object) -> int | None:
        return input_short(FINETUNE.model_copy(update={"image_size": 224} | changes))

    assert short() == short(augmentation="adv") == 305  # 224 / sqrt(0.54)
    assert short(augmentation="big") == 349
    assert short(augmentation="red") == 256
    assert short(augmentation="gentle") == 251  # 224 / sqrt(0.8)
    assert short(input_cache=400) == 400
    assert short(input_cache="off") is None
    assert input_short(HeadSettings(backbone="small")) is None
    assert short(image_size=None) == input_short(FINETUNE.model_copy(update={"image_size": 64}))
    assert input_images(photos, FINETUNE.model_copy(update={"input_cache": "off"})) is photos
    small = input_images(photos, FINETUNE)
    assert isinstance(small, ResizedImages)
    assert input_images(small, FINETUNE) is small
    memory = squares()
    assert input_images(memory, FINETUNE) is memory


def test_a_model_reads_the_same_images_with_and_without_the_cache(photos: ImageSet) -> None:
    def vectors(input_cache: int | str) -> np.ndarray:
        settings = FINETUNE.model_copy(update={"input_cache": input_cache})
        with isolated(0):
            model = Embedder(settings, LinearHead(96, 8), load_backbone("small"))
        return embed(photos, model).vectors

    before = vectors(40)
    assert list_pixel_caches() == []  # images read only once are not cached
    resized_images(photos, 40)
    np.testing.assert_array_equal(vectors(40), before)
    assert np.abs(vectors("off") - before).max() > 1e-4


@dataclass(frozen=True)
class Negatives(ImageSet):
    """A subclass that decodes the same files differently, as a user would write it."""

    def read(self, index: int) -> Image.Image:  # type: ignore[override]
        path = self.path(index)
        with Image.open(io.BytesIO(path.read_bytes().removeprefix(b"raw"))) as image:
            return ImageOps.invert(image.convert("RGB"))


@pytest.fixture
def negatives(photos: ImageSet) -> Negatives:
    return Negatives(**{field.name: getattr(photos, field.name) for field in fields(photos)})


def test_a_subclass_is_never_cached(photos: ImageSet, negatives: Negatives) -> None:
    resized_images(photos, 40)
    assert input_images(negatives, FINETUNE) is negatives
    assert planned_short(photos, FINETUNE) == 44
    assert planned_short(negatives, FINETUNE) is None
    embeddings = []
    for input_cache in ("auto", "off"):
        with isolated(0):
            settings = FINETUNE.model_copy(update={"input_cache": input_cache})
            embeddings.append(
                embed(
                    negatives, Embedder(settings, LinearHead(96, 8), load_backbone("small"))
                ).vectors
            )
    np.testing.assert_array_equal(*embeddings)


def test_features_depend_on_the_subclass(photos: ImageSet, negatives: Negatives) -> None:
    plain = embed(photos, "pixels").vectors
    np.testing.assert_allclose(embed(negatives, "pixels").vectors, -plain, atol=0.02)
    np.testing.assert_array_equal(embed(photos, "pixels").vectors, plain)


def test_problems_depend_on_the_subclass(photos: ImageSet, negatives: Negatives) -> None:
    photos.path(0).write_bytes(b"raw" + photos.path(0).read_bytes())
    for images, corrupt in ((photos, 1), (negatives, 0), (photos, 1), (negatives, 0)):
        assert np.count_nonzero(check_files(images).problems) == corrupt


def test_features_of_resized_images_have_their_own_cache_entry(
    photos: ImageSet,
) -> None:
    small = embed(resized_images(photos, 20), "pixels").vectors
    exact = embed(photos, "pixels").vectors
    assert np.abs(small - exact).max() > 1e-3
    np.testing.assert_array_equal(embed(resized_images(photos, 20), "pixels").vectors, small)


def test_a_damaged_index_is_refused(photos: ImageSet) -> None:
    resized_images(photos, 40)
    (index,) = (cache_folder() / "pixels").glob("*/index.npz")
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(OodmlError, match="damaged"):
        resized_images(photos, 40)


@pytest.mark.parametrize("left", [0, 1000])
def test_truncated_pixels_are_refused(photos: ImageSet, left: int) -> None:
    resized_images(photos, 40)
    (cut,) = (cache_folder() / "pixels").glob("*/pixels.bin")
    cut.write_bytes(cut.read_bytes()[:left])
    with pytest.raises(OodmlError, match="damaged"):
        resized_images(photos, 40)
