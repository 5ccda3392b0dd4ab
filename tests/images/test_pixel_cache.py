import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from oodml.datasets import open_images
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.files import cache_folder
from oodml.images import pixel_cache as module
from oodml.images.contents import contents
from oodml.images.image_set import ImageSet
from oodml.images.loader import batches, train_views
from oodml.images.loader import test_views as make_test_views
from oodml.images.pixel_cache import (
    SmallImages,
    input_images,
    input_short,
    keep_pixels,
    kept_files,
    small_images,
)
from oodml.images.transforms import RECIPES, recipe
from oodml.model import Embedder, LinearHead, ModelSettings
from oodml.randomness import isolated
from oodml.study.inputs import planned_short

from .samples import squares, write_folder

FINETUNE = ModelSettings(backbone="small", mode="finetune", image_size=32)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, which believes files that were made just now."""
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("oodml.images.hashes.SETTLED", -1e6)


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    """Two classes of six photographs, the last of each of 30x20 pixels, the others of 100x80."""
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
    made = [make_test_views(images, size, chosen), train_views(images, size, chosen, 7)]
    return np.stack([batch.numpy() for batch in batches([(rows, one) for one in made], threads)])


def test_large_images_are_kept_small_and_small_ones_as_they_are(photos: ImageSet) -> None:
    small = small_images(photos, 40)
    for row in range(12):
        if row % 6 == 5:
            np.testing.assert_array_equal(
                np.asarray(small.picture(row)), np.asarray(photos.read(row))
            )
        else:
            wanted = photos.read(row).resize((50, 40), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(small.picture(row), np.asarray(wanted))
    np.testing.assert_array_equal(np.asarray(small.read(0)), np.asarray(photos.read(0)))


def test_subsets_find_their_pictures(photos: ImageSet) -> None:
    small = small_images(photos, 40)
    part = small.subset(["b"]).select(np.array([4, 1]))
    assert part.ids.tolist() == ["b/10.png", "b/07.jpg"]
    for row, place in enumerate((10, 7)):
        np.testing.assert_array_equal(part.picture(row), small.picture(place))


def test_what_is_not_kept_is_the_same(photos: ImageSet) -> None:
    unkept = small_images(photos, 40, keep=False)
    assert unkept.kept is None
    assert not (cache_folder() / "pixels").exists()
    kept = small_images(photos, 40)
    for row in range(12):
        np.testing.assert_array_equal(
            np.asarray(unkept.picture(row)), np.asarray(kept.picture(row))
        )
    assert small_images(photos, 40, keep=False).kept is not None


def test_it_is_decoded_once_and_again_when_an_image_changes(
    photos: ImageSet,
) -> None:
    said: list[str] = []
    small_images(photos, 40, say=said.append)
    small_images(photos, 40, say=said.append)
    assert len(said) == 1
    assert "12 images, short side 40, about 0.1 MB" in said[0]
    other = Image.new("RGB", (100, 80), "red")
    other.save(photos.path(0))
    changed = small_images(photos, 40, say=said.append)
    assert len(said) == 2
    np.testing.assert_array_equal(changed.picture(0), np.full((40, 50, 3), [255, 0, 0]))
    assert [name for name, _ in kept_files()] == ["photos: 12 images, short side 40"] * 2


def test_other_names_and_places_share_the_file(photos: ImageSet, tmp_path: Path) -> None:
    small_images(photos, 40)
    moved = tmp_path / "moved" / "elsewhere"
    moved.parent.mkdir()
    (tmp_path / "photos").rename(moved)
    small_images(open_images(moved), 40)
    assert len(kept_files()) == 1


def test_images_of_the_kept_size_or_less_give_the_same_views(tmp_path: Path) -> None:
    images = open_images(write_folder(squares(2, 6), tmp_path / "squares"))
    small = small_images(images, 24)
    for name in RECIPES:
        np.testing.assert_array_equal(views(small, name, 20), views(images, name, 20))


def test_red_loses_nothing(photos: ImageSet) -> None:
    """Its views are cut out of the image at the very size that is kept."""
    photos = photos.select(np.arange(12) % 6 != 5)
    short = input_short(FINETUNE.model_copy(update={"augmentation": "red"}))
    assert short == 37
    small = small_images(photos, short)
    np.testing.assert_array_equal(views(small, "red", 32), views(photos, "red", 32))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_views_of_kept_pictures_are_near_the_originals_and_ignore_threads(
    photos: ImageSet, name: str
) -> None:
    small = small_images(photos, 60)
    made = views(small, name, 32, threads=1)
    np.testing.assert_array_equal(made, views(small, name, 32, threads=3))
    difference = np.abs(made.astype(int) - views(photos, name, 32).astype(int))
    assert difference.mean() < 3
    assert np.abs(made.astype(int) - made[:, ::-1].astype(int)).mean() > 30  # images differ so much


def test_corrupt_images_are_refused_and_named(photos: ImageSet) -> None:
    data = photos.path(3).read_bytes()
    photos.path(3).write_bytes(data[: len(data) // 2])
    with pytest.raises(OodmlError, match=r"photos: 1 image is corrupt(.|\n)*03\.jpg"):
        small_images(photos, 40)


def test_one_decoding_keeps_pixels_and_finds_corrupt_images(
    photos: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos.path(3).read_bytes()
    photos.path(3).write_bytes(data[: len(data) // 2])
    known = keep_pixels(photos, 40)
    monkeypatch.setattr(ImageSet, "read", None)
    problems = contents(photos).problems
    assert np.flatnonzero(problems != "").tolist() == [3]
    assert problems.tolist() == known.problems.tolist()
    rest = small_images(photos.without(["a/03.jpg"]), 40)
    assert rest.kept is not None
    assert rest.picture(3).shape == (40, 50, 3)


def test_a_full_disk_is_told_before_it_is_full(
    photos: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OodmlError, match=r"takes about 0.1 MB, and 0.0 GB are free.*input_cache"):
        small_images(photos, 40)
    left = [file for file in (cache_folder() / "pixels").iterdir() if file.suffix != ".lock"]
    assert left == []


def test_of_several_at_once_one_makes_the_file(
    photos: ImageSet,
) -> None:
    """The lock holds between processes as it does between the openings of a file here."""
    said: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(small_images, photos, 40, say=said.append) for _ in range(4)]
        found = [job.result().picture(0) for job in jobs]
    assert len(said) == len(kept_files()) == 1
    for picture in found:
        np.testing.assert_array_equal(picture, found[0])


def test_what_input_cache_means(photos: ImageSet) -> None:
    def short(**changes: object) -> int | None:
        return input_short(FINETUNE.model_copy(update={"image_size": 224} | changes))

    assert short() == short(augmentation="adv") == 305  # 224 / sqrt(0.54)
    assert short(augmentation="big") == 349
    assert short(augmentation="red") == 256
    assert short(augmentation="gentle") == 251  # 224 / sqrt(0.8)
    assert short(input_cache=400) == 400
    assert short(input_cache="off") is None
    assert short(mode="head") is None
    assert short(image_size=None) == input_short(FINETUNE.model_copy(update={"image_size": 64}))
    assert input_images(photos, FINETUNE.model_copy(update={"input_cache": "off"})) is photos
    small = input_images(photos, FINETUNE)
    assert isinstance(small, SmallImages)
    assert input_images(small, FINETUNE) is small
    memory = squares()
    assert input_images(memory, FINETUNE) is memory


def test_a_model_sees_the_same_pictures_kept_or_not(photos: ImageSet) -> None:
    def vectors(input_cache: int | str) -> np.ndarray:
        settings = FINETUNE.model_copy(update={"input_cache": input_cache})
        with isolated(0):
            model = Embedder(settings, LinearHead(96, 8))
        return embed(photos, model).vectors

    before = vectors(40)
    assert kept_files() == []  # to be read once, they are not kept
    small_images(photos, 40)
    np.testing.assert_array_equal(vectors(40), before)
    assert np.abs(vectors("off") - before).max() > 1e-4


@dataclass(frozen=True)
class Negatives(ImageSet):
    """Another reading of the same files, in the way that a user would write it."""

    def read(self, index: int) -> Image.Image:  # type: ignore[override]
        path = self.path(index)
        with Image.open(io.BytesIO(path.read_bytes().removeprefix(b"raw"))) as image:
            return ImageOps.invert(image.convert("RGB"))


@pytest.fixture
def negatives(photos: ImageSet) -> Negatives:
    return Negatives(**{field.name: getattr(photos, field.name) for field in fields(photos)})


def test_a_class_that_reads_files_in_its_own_way_is_never_kept(
    photos: ImageSet, negatives: Negatives
) -> None:
    small_images(photos, 40)
    assert input_images(negatives, FINETUNE) is negatives
    assert planned_short(photos, FINETUNE) == 44
    assert planned_short(negatives, FINETUNE) is None
    found = []
    for input_cache in ("auto", "off"):
        with isolated(0):
            settings = FINETUNE.model_copy(update={"input_cache": input_cache})
            found.append(embed(negatives, Embedder(settings, LinearHead(96, 8))).vectors)
    np.testing.assert_array_equal(*found)


def test_features_of_another_reading_of_the_same_files(
    photos: ImageSet, negatives: Negatives
) -> None:
    plain = embed(photos, "pixels").vectors
    np.testing.assert_allclose(embed(negatives, "pixels").vectors, -plain, atol=0.02)
    np.testing.assert_array_equal(embed(photos, "pixels").vectors, plain)


def test_what_one_class_cannot_decode_another_may(photos: ImageSet, negatives: Negatives) -> None:
    photos.path(0).write_bytes(b"raw" + photos.path(0).read_bytes())
    for images, corrupt in ((photos, 1), (negatives, 0), (photos, 1), (negatives, 0)):
        assert np.count_nonzero(contents(images).problems) == corrupt


def test_frozen_features_of_kept_pictures_are_not_taken_for_those_of_the_files(
    photos: ImageSet,
) -> None:
    small = embed(small_images(photos, 20), "pixels").vectors
    exact = embed(photos, "pixels").vectors
    assert np.abs(small - exact).max() > 1e-3
    np.testing.assert_array_equal(embed(small_images(photos, 20), "pixels").vectors, small)


def test_a_damaged_file_is_told(photos: ImageSet) -> None:
    small_images(photos, 40)
    (index,) = (cache_folder() / "pixels").glob("*/index.npz")
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(OodmlError, match="damaged .* Delete it; it is made anew"):
        small_images(photos, 40)


@pytest.mark.parametrize("left", [0, 1000])
def test_a_cut_file_is_told(photos: ImageSet, left: int) -> None:
    small_images(photos, 40)
    (cut,) = (cache_folder() / "pixels").glob("*/pixels.bin")
    cut.write_bytes(cut.read_bytes()[:left])
    with pytest.raises(
        OodmlError, match=r"damaged \(.*empty|damaged \(pixels.bin has 1000 bytes of"
    ):
        small_images(photos, 40)
