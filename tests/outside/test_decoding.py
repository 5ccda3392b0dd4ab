"""Images of all formats, modes, and depths are decoded as a viewer shows them, or refused."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, TiffImagePlugin

from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.images.decode import SUFFIXES, TRAITS, decode, parse_background, traits_of
from oodml.images.fingerprint import decoding_settings, fingerprint
from oodml.images.image_set import ImageSet
from oodml.images.pixel_cache import list_pixel_caches, resized_images

LOSSLESS = {"webp": {"lossless": True, "exact": True}, "tif": {}, "png": {}}
T = Image.Transpose
ROTATIONS = {
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}
"""How to store an image that each EXIF orientation turns upright."""


def pixels(path: Path, background: str = "white") -> np.ndarray:
    return np.asarray(decode(path, background=background)).astype(int)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def image_set(root: Path, *names: str, background: str = "white") -> ImageSet:
    classes = np.array([name[0] for name in names])
    return ImageSet("files", np.array(names), classes, root=root, background=background)


def profile(kind: str) -> bytes:
    """The sRGB profile; with red and blue exchanged; or of gray levels with a gamma of 3."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if kind == "sRGB":
        return srgb
    if kind == "exchanged":
        return srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    white = struct.pack(">iii", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))
    point = b"XYZ " + bytes(4) + white
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, 3 * 256) + bytes(2)
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 16)
    head = struct.pack(">I4sI4s4s4s", 192, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    return (
        (head + bytes(12) + b"acsp" + bytes(28) + white).ljust(128, b"\0") + table + point + gamma
    )


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_color_profiles_are_converted_to_srgb(tmp_path: Path, suffix: str, mode: str) -> None:
    values, path = noise(6, 6, 3), tmp_path / f"a{suffix}"
    image = Image.fromarray(values).convert(mode)
    for kind, expected in {"sRGB": values, "exchanged": values[..., ::-1]}.items():
        image.save(
            path, icc_profile=profile(kind), **({"lossless": True} if suffix == ".webp" else {})
        )
        np.testing.assert_allclose(pixels(path), expected, atol=3)
        assert ("profile" in traits_of(path.read_bytes()).split()) == (kind != "sRGB")
    image.save(path, icc_profile=b"damaged")
    assert "profile" not in traits_of(path.read_bytes())


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_gray_profiles_are_converted_to_srgb(tmp_path: Path, mode: str) -> None:
    values = noise(8, 8)
    linear = (values / 255) ** 3
    expected = 255 * np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    (image.convert(mode) if mode == "LA" else image).save(
        tmp_path / "a.png", icc_profile=profile("gray")
    )
    np.testing.assert_allclose(pixels(tmp_path / "a.png")[..., 0], expected, atol=4)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize(("background", "color"), [("white", 255), ("black", 0), ("#0a0a0a", 10)])
def test_transparent_pixels_show_the_background(
    tmp_path: Path, suffix: str, background: str, color: int
) -> None:
    rgba = noise(20, 20, 4)
    rgba[..., 3] = 0
    rgba[5:15, 5:15, 3] = 255
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rgba).save(path, **LOSSLESS[suffix])
    shown = pixels(path, background)
    np.testing.assert_array_equal(shown[5:15, 5:15], rgba[5:15, 5:15, :3])
    assert (shown[:5] == color).all()
    assert "alpha" in traits_of(path.read_bytes())


def test_partial_transparency_is_blended(tmp_path: Path) -> None:
    Image.new("LA", (4, 4), (0, 51)).save(tmp_path / "a.png")
    assert abs(pixels(tmp_path / "a.png") - 204).max() <= 1
    assert abs(pixels(tmp_path / "a.png", "black")).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_a_transparent_color_shows_the_background(tmp_path: Path, mode: str) -> None:
    shape = np.zeros((8, 8), np.uint8)
    shape[2:6, 2:6] = 1
    image = Image.fromarray(shape * 255).convert(mode if mode != "I;16" else "L")
    key: object = {"RGB": (0, 0, 0)}.get(mode, 0)
    if mode == "P":
        image = Image.fromarray(shape)
        image.putpalette([9, 9, 9, 100, 100, 100])
    if mode == "I;16":
        image = Image.fromarray(shape.astype(np.uint16) * 40000)
    image.save(tmp_path / "a.png", transparency=key)
    shown = pixels(tmp_path / "a.png", "#ff0000")
    assert (shown[0, 0] == (255, 0, 0)).all()
    assert (shown[3, 3] != (255, 0, 0)).any()


def test_the_transparent_color_of_a_two_bit_png(tmp_path: Path) -> None:
    """Pillow scales the pixels of the file to 8 bits, but not the transparent color."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + checksum

    header = (2).to_bytes(4, "big") * 2 + bytes([2, 0, 0, 0, 0])  # 2x2 pixels, 2 bits, gray
    rows = zlib.compress(bytes([0, 0b00010000, 0, 0b10110000]))
    chunks = [(b"IHDR", header), (b"tRNS", b"\0\1"), (b"IDAT", rows), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)
    (tmp_path / "a.png").write_bytes(data)
    assert pixels(tmp_path / "a.png", "#ff0000").tolist() == [
        [[0, 0, 0], [255, 0, 0]],
        [[170] * 3, [255] * 3],
    ]


@pytest.mark.parametrize("background", ["gray", "#fff", "", 3, "#12345g"])
def test_other_backgrounds_are_refused(background: object) -> None:
    with pytest.raises(OodmlError) as error:
        parse_background(background)
    assert (error.value.location, error.value.given) == ("background", background)


def test_the_background_counts_only_for_transparent_images(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "opaque.png")
    Image.fromarray(noise(8, 8, 4)).save(tmp_path / "cut.png")
    for names, equal in ((["opaque.png"], True), (["opaque.png", "cut.png"], False)):
        white, black = (image_set(tmp_path, *names, background=b) for b in ("white", "black"))
        assert (fingerprint(white) == fingerprint(black)) is equal
        assert decoding_settings(black) == ({} if equal else {"background": "black"})
        vectors = [embed(images, "pixels").vectors for images in (white, black, white)]
        assert np.array_equal(vectors[0], vectors[1]) is equal
        np.testing.assert_array_equal(vectors[0], vectors[2])


def test_the_pixel_cache_depends_on_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("oodml.images.fingerprint.SETTLE_SECONDS", -1e6)
    Image.new("RGBA", (40, 40)).save(tmp_path / "a.png")
    for background, color in (("white", 255), ("black", 0), ("white", 255)):
        images = resized_images(image_set(tmp_path, "a.png", background=background), 20)
        assert images.cache is not None
        assert (np.asarray(images.input_image(0)) == color).all()
    assert len(list_pixel_caches()) == 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", ROTATIONS)
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    x = np.broadcast_to(np.arange(48)[None, :, None] * 5, (32, 48, 3)).astype(np.uint8)
    upright = Image.fromarray(x // 2 + np.arange(32, dtype=np.uint8)[:, None, None] * 3)
    exif = Image.Exif()
    exif[0x112] = orientation
    options: dict[str, object] = {"exif": exif}
    if suffix == "tif":
        options = {"tiffinfo": {0x112: orientation}}
    path = tmp_path / f"a.{suffix}"
    upright.transpose(ROTATIONS[orientation]).save(path, quality=95, **options)
    shown = pixels(path)
    assert shown.shape == (32, 48, 3)
    assert abs(shown - np.asarray(upright).astype(int)).mean() < 3
    assert "rotated" in traits_of(path.read_bytes())
    assert min(decode(path, at_least=4).size) >= 4
    assert decode(path, at_least=4).size[0] > decode(path, at_least=4).size[1]


def test_damaged_exif_data_are_ignored(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0not EXIF at all")
    assert pixels(tmp_path / "a.jpg").shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2", "pgm"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_integer_gray_levels_are_scaled_by_their_range(
    tmp_path: Path, suffix: str, bits: int
) -> None:
    values = (np.arange(64).reshape(8, 8) * ((1 << bits) - 1) // 63).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    expected = np.arange(64).reshape(8, 8, 1) * 255 / 63
    assert abs(pixels(tmp_path / f"a.{suffix}") - expected).max() <= 1


def test_a_declared_maximum_has_precedence_over_the_range(tmp_path: Path) -> None:
    values = np.full((4, 4), 4000, np.uint16)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[281] = 65535
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=info)
    assert pixels(tmp_path / "a.tif").max() == 15
    (tmp_path / "a.pgm").write_bytes(b"P5 1 1 1000\n" + (500).to_bytes(2, "big"))
    assert pixels(tmp_path / "a.pgm").ravel().tolist() == [128] * 3


def test_inverted_gray_levels(tmp_path: Path) -> None:
    values = np.array([[0, 65535]], np.uint16)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[262] = 0
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=info)
    with Image.open(tmp_path / "a.tif") as image:
        if image.tag_v2[262] != 0:  # type: ignore[attr-defined]
            pytest.skip("this version of Pillow does not write inverted images")
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("scale", [1, 255])
def test_floats_are_scaled_by_their_range(tmp_path: Path, scale: int) -> None:
    values = np.linspace(0, scale, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert abs(pixels(tmp_path / "a.tif")[..., 0] - values / scale * 255).max() <= 0.51


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-1.0, 1.0]], np.float32),
        np.array([[np.nan, 1.0]], np.float32),
        np.array([[0.0, 300.0]], np.float32),
        np.array([[0, 70000]], np.int32),
        np.array([[-1, 5]], np.int32),
    ],
)
def test_other_ranges_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(OodmlError, match="supported") as error:
        decode(tmp_path / "a.tif")
    assert error.value.location == str(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_color_spaces_keep_the_colors(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (16, 16), (200, 60, 30))
    image.convert(mode).save(tmp_path / "a.jpg", quality=95)
    assert abs(pixels(tmp_path / "a.jpg") - (200, 60, 30)).max() <= 4


def test_lab_keeps_the_colors(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = Image.new("RGB", (16, 16), (200, 60, 30))
    converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert converted is not None
    converted.save(tmp_path / "a.tif")
    assert abs(pixels(tmp_path / "a.tif") - (200, 60, 30)).max() <= 3


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif", "avif"])
def test_the_first_of_several_frames_is_read_and_reported(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert abs(pixels(path) - (255, 0, 0)).max() <= 3
    assert "animated" in traits_of(path.read_bytes())


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"]),
    suffix=st.sampled_from(sorted(SUFFIXES)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 9),
    damage=st.sampled_from(["none", "cut", "scratch"]),
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_an_image_is_decoded_or_refused_by_name(
    tmp_path: Path, mode: str, suffix: str, size: tuple[int, int], seed: int, damage: str
) -> None:
    image = Image.fromarray(noise(size[1], size[0], 4, seed=seed))
    image = image.convert("LA").convert("PA") if mode == "PA" else image.convert(mode)
    stream = io.BytesIO()
    formats = Image.registered_extensions()
    assume(suffix in formats)
    try:
        image.save(stream, formats[suffix])
        with Image.open(stream) as written:
            written.load()
    except (OSError, ValueError, KeyError):
        assume(False)  # Pillow does not write this mode, or cannot read what it writes
    data = bytearray(stream.getvalue())
    if damage == "cut":
        del data[len(data) // 2 :]
    if damage == "scratch":
        for place in np.random.default_rng(seed).integers(0, len(data), 8):
            data[place] ^= 0x5A
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert set(traits_of(bytes(data)).split()) <= set(TRAITS)
    with contextlib.suppress(OodmlError) if damage != "none" else contextlib.nullcontext():
        decoded = decode(path)
        assert decoded.mode == "RGB"
        assert damage != "none" or formats[suffix] == "ICO" or decoded.size == size


def test_signed_gray_levels_of_eight_bits_are_refused(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[339] = 2
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.tif", tiffinfo=tags)
    with pytest.raises(OodmlError) as raised:
        pixels(tmp_path / "a.tif")
    assert "a.tif" in str(raised.value.location)
