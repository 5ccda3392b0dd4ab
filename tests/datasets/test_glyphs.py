"""The properties of the included dataset."""

import re

import numpy as np
import pytest

from oodml.datasets import glyphs, open_images
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images("glyphs")


def test_ten_scripts_with_twenty_images_per_class(images: ImageSet) -> None:
    assert images.pixels is not None
    assert images.pixels.shape == (5780, 64, 64)
    assert len(set(images.superclass_of.values())) == 10
    assert set(np.bincount(images.labels)) == {20}
    assert all(name.split("/")[0] == script for name, script in images.superclass_of.items())


def test_names_are_sorted_unique_and_safe_as_paths(images: ImageSet) -> None:
    pairs = list(zip(images.classes.tolist(), images.ids.tolist(), strict=True))
    assert sorted(pairs) == pairs
    assert all(re.fullmatch(r"[a-z_]+/[a-z0-9_-]+", name) for name in images.class_names)
    assert all(re.fullmatch(rf"{name}/[01]\d-[a-z0-9-]+", id_) for name, id_ in pairs)


def test_images_are_distinct_and_within_a_class_not_similar(images: ImageSet) -> None:
    assert images.pixels is not None
    assert len({image.tobytes() for image in images.pixels}) == len(images)
    ink = 255 - images.pixels.reshape(-1, 20, 4096).astype(np.int32)
    for one in range(20):
        for other in range(one):
            shared = np.minimum(ink[:, one], ink[:, other]).sum(axis=1)
            joint = np.maximum(ink[:, one], ink[:, other]).sum(axis=1)
            assert (shared / joint).max() <= 0.9


def test_the_ink_is_inside_the_frame_and_centered(images: ImageSet) -> None:
    assert images.pixels is not None
    ink = images.pixels < 250
    for axis in (1, 2):
        touched = ink.any(axis=axis)
        first, last = touched.argmax(axis=1), 63 - touched[:, ::-1].argmax(axis=1)
        assert first.min() >= 2
        assert last.max() <= 61
        assert np.abs(first + last - 63).max() <= 2


def test_scripts_can_be_chosen() -> None:
    chosen = open_images("glyphs", scripts=["hebrew", "digits"])
    assert set(chosen.superclass_of.values()) == {"hebrew", "digits"}
    assert len(chosen.class_names) == 35


@pytest.mark.parametrize(("scripts", "given"), [(["latin"], "latin"), ([], []), ("greek", "greek")])
def test_invalid_scripts_are_refused(scripts: object, given: object) -> None:
    with pytest.raises(OodmlError) as error:
        open_images("glyphs", scripts=scripts)
    assert error.value.given == given
    assert "latin_upper" in error.value.allowed


def test_every_family_has_its_notice(images: ImageSet) -> None:
    text = glyphs.FILE.with_name("glyphs_licenses.txt").read_text(encoding="utf-8")
    noticed = set(re.findall(r"^([a-z0-9-]+) \(PyPI: fontpkg-\1\)$", text, re.MULTILINE))
    used = {re.sub(r"^.*/\d\d-(.*)-[a-z]+$", r"\1", id_) for id_ in images.ids.tolist()}
    assert used == noticed
    assert text.count("SIL OPEN FONT LICENSE Version 1.1 - 26 February 2007") == 1
    assert len(glyphs.FILE.read_bytes()) <= 6_000_000
