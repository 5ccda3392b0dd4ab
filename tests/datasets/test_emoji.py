"""The properties of the included dataset `emoji`."""

import re

import numpy as np
import pytest

from oodml.datasets import emoji, open_images
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images("emoji")


def test_every_class_is_drawn_in_every_style(images: ImageSet) -> None:
    assert images.pixels is not None
    assert images.pixels.shape == (len(images), 64, 64, 3)
    assert len(images.class_names) > 500
    assert set(np.bincount(images.labels)) == {7}
    styles = {name.split("/")[2] for name in images.ids.tolist()}
    assert len(styles) == 7
    assert len(set(images.superclass_of.values())) == 8


def test_names_are_sorted_unique_and_safe_as_paths(images: ImageSet) -> None:
    assert images.classes.tolist() == sorted(images.classes.tolist())
    assert all(re.fullmatch(r"[a-z]+/[a-z0-9_’.-]+", name) for name in images.class_names)
    assert all(
        row.startswith(f"{name}/")
        for row, name in zip(images.ids.tolist(), images.classes.tolist(), strict=True)
    )


def test_images_are_drawings_on_white(images: ImageSet) -> None:
    assert images.pixels is not None
    assert (images.pixels.min(axis=(1, 2, 3)) < 250).all()
    corners = images.pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]].min(axis=(1, 2))
    assert np.mean(corners == 255) > 0.8


def test_a_class_looks_more_alike_than_its_group(images: ImageSet) -> None:
    """In the mean over styles, a drawing is closer to its own class than to others."""
    assert images.pixels is not None
    noto, twemoji = (open_images("emoji", styles=[style]).pixels for style in ("noto", "twemoji"))
    assert noto is not None
    assert twemoji is not None
    first, second = noto.astype(np.float32), twemoji.astype(np.float32)
    own = np.abs(first - second).mean()
    other = np.abs(first - np.roll(second, 1, axis=0)).mean()
    assert own < 0.8 * other


def test_groups_and_styles_select(images: ImageSet) -> None:
    animals = open_images("emoji", groups=["animals"], styles=["noto", "fxemoji"])
    rows = [
        row
        for row, name in enumerate(images.ids.tolist())
        if name.startswith("animals/") and name.split("/")[2] in ("noto", "fxemoji")
    ]
    assert animals.ids.tolist() == images.ids[rows].tolist()
    assert animals.pixels is not None
    assert images.pixels is not None
    assert np.array_equal(animals.pixels, images.pixels[rows])


@pytest.mark.parametrize("options", [{"groups": ["cars"]}, {"styles": "noto"}, {"styles": []}])
def test_unknown_names_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OodmlError) as caught:
        emoji.dataset(**options)  # type: ignore[arg-type]
    assert caught.value.allowed
