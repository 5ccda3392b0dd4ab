import numpy as np
import pytest
from PIL import Image

from oodml.errors import OodmlError
from oodml.images.transforms import RECIPES, _random_box, _resize, recipe, train_view
from oodml.images.transforms import test_view as make_test_view


def gradient(width: int = 60, height: int = 40) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_views_have_the_input_size_and_are_reproducible(name: str) -> None:
    chosen = recipe(name)
    side = round(28 * chosen.enlarge)
    first = train_view(gradient(), 28, chosen, seed=5)
    assert first.shape == (side, side, 3)
    assert make_test_view(gradient(), 28, chosen).shape == (side, side, 3)
    np.testing.assert_array_equal(first, train_view(gradient(), 28, chosen, seed=5))
    others = [train_view(gradient(), 28, chosen, seed=s) for s in range(5)]
    assert any((other != first).any() for other in others)


def test_base_test_view_is_the_resize_centre() -> None:
    image = gradient(320, 256)
    expected = np.asarray(image)[16:240, 48:272]
    np.testing.assert_array_equal(make_test_view(image, 224, recipe("base")), expected)


def test_gentle_shows_the_whole_image() -> None:
    view = make_test_view(gradient(), 32, recipe("gentle")).astype(int)
    assert view[0, 0].sum() < 30
    assert view[-1, -1, 0] > 220


def test_half_of_the_views_are_mirrored_unless_gentle() -> None:
    def mirrored(name: str) -> float:
        views = [train_view(gradient(), 16, recipe(name), seed=s).astype(int) for s in range(200)]
        return float(np.mean([view[:, 0, 0].mean() > view[:, -1, 0].mean() for view in views]))

    assert 0.35 < mirrored("base") < 0.65
    assert mirrored("gentle") == 0


def test_the_covered_area_is_uniform_in_its_range() -> None:
    spans = []
    for s in range(300):
        left, top, right, bottom = _random_box(
            (400, 400), (0.6, 1.0), np.random.Generator(np.random.PCG64(s))
        )
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 400
        spans.append((right - left) * (bottom - top) / 400**2)
    assert min(spans) > 0.55
    assert max(spans) <= 1


@pytest.mark.parametrize("box", [(0, 0, 150, 120), (30, 10, 140, 100), (60, 50, 90, 110)])
def test_kept_pixels_are_resize_as_by_pillow_but_for_the_rim(box: tuple[int, ...]) -> None:
    """Crops are reduced and enlarged; the border pixels are compared only for the whole image."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (120, 150, 3)).astype(np.uint8)
    for side in (40, 100, 224):
        ours = np.asarray(_resize(pixels, (side, side), box)).astype(int)
        theirs = np.asarray(_resize(Image.fromarray(pixels), (side, side), box)).astype(int)
        rim = 0 if box == (0, 0, 150, 120) else max(1, round(side / (box[2] - box[0])))
        inner = slice(rim, side - rim)
        assert np.abs(ours - theirs)[inner, inner].max() <= 2
        # Cropped first, the results agree up to the border.
        cut = Image.fromarray(pixels).crop(box).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(ours - np.asarray(cut).astype(int)).max() <= 2


def test_an_unknown_name() -> None:
    with pytest.raises(OodmlError, match="base") as error:
        recipe("bse")
    assert error.value.given == "bse"
