"""The one function that decodes image files, of every format, pixel mode, and bit depth.

Every image becomes 8-bit RGB as an image viewer shows it:

- EXIF orientation is applied.
- Transparent pixels are composited on a background, by default white.
- Gray levels and floats are scaled by the range that the file declares. A 16-bit file that declares
  none counts as 8-, 12-, or 16-bit, the smallest that holds its largest value; floats up to 1 count
  as 0…1, otherwise 0…255.
- Colors and gray levels are converted to sRGB with the file's color profile, if it has one.
- If a file has several frames or pages, the first is used.

Everything else is an error that names the file. Only the formats in `FORMATS` are opened,
regardless of a file's suffix.
"""

import io
import os
import re
import stat
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, UnidentifiedImageError

from oodml.errors import error_at

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "ICO", "DIB")
SUFFIXES = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
)  # fmt: skip
"""The suffixes of files that are read as images."""
OTHER_IMAGE_SUFFIXES = (
    ".ai", ".arw", ".cr2", ".cr3", ".dds", ".dng", ".emf", ".eps", ".exr", ".hdr", ".heic",
    ".heif", ".jxl", ".nef", ".orf", ".pcx", ".psd", ".qoi", ".raf", ".raw", ".rw2", ".svg",
    ".tga", ".wmf", ".xcf",
)  # fmt: skip
"""The suffixes of images that cannot be read."""

TRAITS = ("alpha", "rotated", "gray", "CMYK", "profile", "16-bit", "float", "animated")
"""Properties of an image file that its header shows; "animated" includes several pages,
"profile" is a color profile of RGB or gray pixels that differs from sRGB."""
DECODED_TRAITS = ("alpha", "rotated", "CMYK", "profile", "16-bit", "float")
"""The traits that affect the decoded pixels in a way that the file's bytes do not determine."""

SAME_COLORS = 3
"""A color profile is sRGB if no color differs by more than this many of 256 levels."""
ORIENTATION = 0x0112
BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE_VALUE, SAMPLE_FORMAT = 258, 262, 281, 339
SIGNED = 2
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270",
          "TRANSVERSE", "ROTATE_90")  # fmt: skip
_TRANSPOSE = {value: Image.Transpose[name] for value, name in enumerate(_TURNS, 2)}
"""What each EXIF orientation is undone by."""


def decode(
    source: Path | bytes, at_least: int | None = None, background: str = "white", name: str = ""
) -> Image.Image:
    """Decode an image file, or its contents with a name for errors, as 8-bit RGB.

    A JPEG may be decoded at 1/2, 1/4, or 1/8 of its size if `at_least` so many pixels of its short
    side remain. The background of transparent pixels is as in `parse_background`.

    Raises:
        OodmlError: if the file cannot be decoded, or the background is no color.
    """
    try:
        if isinstance(source, Path):
            require_regular_file(source)
        stream = source if isinstance(source, Path) else io.BytesIO(source)
        with Image.open(stream, formats=_formats()) as image:
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            return _to_rgb(image, parse_background(background))
    except MemoryError:
        raise
    except Exception as error:  # the decoder of each format raises its own exceptions
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        location = source if isinstance(source, Path) else name
        raise error_at(location, f"not a readable image: {reason}", allowed=FORMATS) from error


def parse_background(value: object) -> tuple[int, int, int]:
    """The RGB color of "white", "black", or "#rrggbb"."""
    if isinstance(value, str) and re.fullmatch("white|black|#[0-9a-fA-F]{6}", value):
        red, green, blue = ImageColor.getrgb(value)[:3]
        return red, green, blue
    problem = f'given {value!r}; allowed: "white", "black", or a color as "#rrggbb"'
    raise error_at("background", problem, value, ("white", "black", "#rrggbb"))


def traits_of(data: bytes) -> str:
    """The traits of an encoded image, separated by spaces; "" if its header cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            if image.format == "PNG" and b"eXIf" in data and "exif" not in image.info:
                image.load()  # the orientation follows the pixels
            present = {
                "alpha": image.has_transparency_data,
                "rotated": _orientation(image) in _TRANSPOSE,
                "gray": image.mode[:1] in ("1", "L", "I", "F") and image.mode != "LAB",
                "CMYK": image.mode == "CMYK",
                "profile": image.mode != "CMYK" and _to_srgb(image) is not None,
                "16-bit": image.mode.startswith("I") or "16" in _raw_mode(image),
                "float": image.mode == "F",
                "animated": False,
            }
            with suppress(Exception):  # only the first frame can be read
                present["animated"] = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    except Exception:  # decoding the file names the problem
        return ""
    return " ".join(trait for trait in TRAITS if present[trait])


def require_regular_file(path: Path) -> None:
    """Raise an OSError if the file is missing, or is a pipe or device, which could block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{path} is not a regular file")


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    _scale_color_key(image)
    levels = _integer_levels(image) if image.mode.startswith("I") else 0
    if image.mode == "L" and _tiff_tag(image, SAMPLE_FORMAT) == SIGNED:
        raise ValueError("signed 8-bit gray levels; supported: unsigned")
    inverted = image.mode[0] in "IF" and _tiff_tag(image, PHOTOMETRIC) == 0
    image.load()
    to_srgb = _to_srgb(image)
    turn = _TRANSPOSE.get(_orientation(image))  # Pillow applies that of TIFF in `load`
    image = image if turn is None else image.transpose(turn)
    if image.mode.startswith("I"):
        image = _gray_from_integers(image, levels, inverted)
    elif image.mode == "F":
        image = _gray_from_floats(image, inverted)
    if to_srgb is not None:
        colors = image.convert(_profile_mode(image))
        colors = ImageCms.applyTransform(colors, to_srgb) or colors
        if image.has_transparency_data:
            colors.putalpha(image.convert("RGBA").getchannel("A"))
        image = colors
    if not image.has_transparency_data:
        # Without a copy, images of some other formats use the file again, which will be closed.
        return image if image.mode == "RGB" and image.format == "JPEG" else image.convert("RGB")
    opaque, rgba = Image.new("RGB", image.size, background), image.convert("RGBA")
    opaque.paste(rgba, mask=rgba)
    return opaque


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 if there is none or the EXIF data are damaged."""
    try:
        # Not PngImageFile.getexif, which decodes the pixels.
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))
    except Exception:  # viewers ignore damaged EXIF data
        return 1


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of the pixel format in the file, such as "RGB;16B", or ""."""
    tiles = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int | float) else None


def _scale_color_key(image: Image.Image) -> None:
    """Scale the transparent color of a PNG to 8 bits; Pillow scales only the pixels."""
    key, raw = image.info.get("transparency"), _raw_mode(image)
    if isinstance(key, tuple) and raw == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif isinstance(key, int) and raw in ("L;2", "L;4"):
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}[raw]


def _integer_levels(image: Image.Image) -> int:
    """The number of gray levels that the file declares, or 0."""
    if image.format == "PPM" and _raw_mode(image) != "I;16B":
        return 1 << 16  # Pillow scales the pixels from the declared maximum
    bits, maximum = _tiff_tag(image, BITS_PER_SAMPLE), _tiff_tag(image, MAX_SAMPLE_VALUE)
    if maximum is not None and 255 <= maximum <= 65535:
        return maximum + 1
    return 1 << bits if bits is not None and bits < 16 else 0


def _gray_from_integers(image: Image.Image, levels: int, inverted: bool) -> Image.Image:
    """Scale 16- or 32-bit gray levels to 8 bits; a transparent level becomes an alpha channel."""
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    levels = levels or next((1 << bits for bits in (8, 12, 16) if high < 1 << bits), 0)
    if low < 0 or high >= max(levels, 1):
        raise ValueError(f"gray levels from {low} to {high}; supported: 0 to 65535")
    shown = levels - 1 - values if inverted else values
    gray = Image.fromarray((shown * 256 // levels).astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return gray
    opacity = np.where(values == key, 0, 255).astype(np.uint8)
    return Image.merge("LA", (gray, Image.fromarray(opacity)))


def _gray_from_floats(image: Image.Image, inverted: bool) -> Image.Image:
    values: NDArray[np.float32] = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # also refuses NaN
        raise ValueError(f"floats from {low:g} to {high:g}; supported: 0 to 1 and 0 to 255")
    limit = 1 if high <= 1 else 255
    shown = limit - values if inverted else values
    return Image.fromarray(np.rint(shown * (255 / limit)).astype(np.uint8))


def _to_srgb(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """The conversion of an image's color profile to sRGB; None without one, or for sRGB itself."""
    profile = image.info.get("icc_profile")
    return _profile_transform(profile, _profile_mode(image)) if profile else None


def _profile_mode(image: Image.Image) -> str:
    if image.mode == "CMYK":
        return "CMYK"
    return "L" if image.mode[:1] in ("1", "L", "I", "F") else "RGB"


@lru_cache(maxsize=256)
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):  # damaged, or of another mode
        return None
    if mode == "CMYK":
        return transform
    steps = range(0, 256, 51)
    colors = [(r, g, b) for r in steps for g in steps for b in steps]
    probe = Image.new("RGB", (len(colors), 1))
    probe.putdata(colors)
    shown = ImageCms.applyTransform(probe.convert(mode), transform)
    plain = np.asarray(probe.convert(mode).convert("RGB")).astype(int)
    return None if np.abs(np.asarray(shown) - plain).max() <= SAME_COLORS else transform
